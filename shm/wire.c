#include <tsr/shm/wire.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static_assert(TSR_WIRE_FINAL_BYTES_MAX % TSR_RING_ALIGN == 0, "finals are counted in ring strides");
static_assert(sizeof(struct tsr_wire_submit) + TSR_WIRE_BIAS_MAX * sizeof(struct tsr_wire_bias) +
                      TSR_WIRE_STOPS_MAX * (sizeof(uint16_t) + TSR_WIRE_STOP_BYTES_MAX) <
                  TSR_WIRE_RECORD_BYTES_MAX - 1024,
              "a submit with every option has room for payload in its first record");

static uint16_t load16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint8_t *store(uint8_t *at, const void *from, size_t bytes)
{
    if (bytes) {
        memcpy(at, from, bytes);
    }
    return at + bytes;
}

/* ---- Checking ---- */

static int out_of_range(struct tsr_err *err, const char *name, double value, const char *range)
{
    return tsr_err_set(err, -EINVAL, "%s is %g: it must be %s", name, value, range);
}

/* NaN fails every comparison, so it is out of every range. */
static bool within(float value, float low, float high)
{
    return value >= low && value <= high;
}

static int check_sampling(const struct tsr_wire_submit *s, struct tsr_err *err)
{
    if (!within(s->temperature, 0, 100)) {
        return out_of_range(err, "temperature", s->temperature, "0 to 100");
    }
    if (!within(s->top_p, 0, 1) || s->top_p == 0) {
        return out_of_range(err, "top_p", s->top_p, "above 0, at most 1");
    }
    if (!within(s->min_p, 0, 1)) {
        return out_of_range(err, "min_p", s->min_p, "0 to 1");
    }
    if (!within(s->repetition_penalty, 0, 10) || s->repetition_penalty == 0) {
        return out_of_range(err, "repetition_penalty", s->repetition_penalty,
                            "above 0, at most 10");
    }
    if (!within(s->presence_penalty, -10, 10)) {
        return out_of_range(err, "presence_penalty", s->presence_penalty, "-10 to 10");
    }
    if (!within(s->frequency_penalty, -10, 10)) {
        return out_of_range(err, "frequency_penalty", s->frequency_penalty, "-10 to 10");
    }
    if (s->top_logprobs > TSR_WIRE_TOP_LOGPROBS_MAX) {
        return tsr_err_set(err, -EINVAL, "top_logprobs is %u: at most %d are given",
                           s->top_logprobs, TSR_WIRE_TOP_LOGPROBS_MAX);
    }
    return 0;
}

static int check_biases(const struct tsr_wire_bias *bias, uint32_t count, struct tsr_err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!within(bias[i].bias, -100, 100)) {
            return tsr_err_set(err, -EINVAL,
                               "the bias of token %" PRIu32 " is %g: it must be -100 to 100",
                               bias[i].token, (double)bias[i].bias);
        }
    }
    return 0;
}

static int check_stops(const uint8_t *stops, uint32_t bytes, uint32_t count, struct tsr_err *err)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (bytes - at < 2) {
            return tsr_err_set(err, -EINVAL, "stop string %" PRIu32 " of %" PRIu32 " is missing",
                               i + 1, count);
        }
        uint32_t length = load16(stops + at);
        at += 2;
        if (length == 0 || length > TSR_WIRE_STOP_BYTES_MAX) {
            return tsr_err_set(err, -EINVAL,
                               "stop string %" PRIu32 " has %" PRIu32 " bytes: 1 to %d can be",
                               i + 1, length, TSR_WIRE_STOP_BYTES_MAX);
        }
        if (bytes - at < length) {
            return tsr_err_set(err, -EINVAL,
                               "stop string %" PRIu32 " ends at byte %" PRIu32
                               " of a list of %" PRIu32,
                               i + 1, at + length, bytes);
        }
        at += length;
    }
    if (at != bytes) {
        return tsr_err_set(err, -EINVAL,
                           "the list of stop strings ends at byte %" PRIu32 " of %" PRIu32, at,
                           bytes);
    }
    return 0;
}

static bool all_zero(const uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i]) {
            return false;
        }
    }
    return true;
}

/* What kind of answer it asks for, against the kind of payload. */
static int check_answer(const struct tsr_wire_submit *s, struct tsr_err *err)
{
    unsigned answers = s->flags & TSR_SUBMIT_ANSWERS;
    if (answers & (answers - 1)) {
        return tsr_err_set(err, -EINVAL,
                           "flags 0x%x ask for more than one of token ids, embedding, text of ids "
                           "and rendered chat",
                           s->flags);
    }
    if (answers == TSR_SUBMIT_DETOKENIZE && s->kind != TSR_PAYLOAD_TOKENS) {
        return tsr_err_set(err, -EINVAL, "payload kind %u: only token ids can be detokenized",
                           s->kind);
    }
    if (answers == TSR_SUBMIT_RENDER && s->kind != TSR_PAYLOAD_CHAT) {
        return tsr_err_set(err, -EINVAL, "payload kind %u: only a chat can be rendered", s->kind);
    }
    return 0;
}

static int check_submit(const uint8_t *record, uint32_t record_bytes, struct tsr_wire_request *out,
                        struct tsr_err *err)
{
    const struct tsr_wire_submit *s = (const void *)record;
    if (s->bias_count > TSR_WIRE_BIAS_MAX || s->stop_count > TSR_WIRE_STOPS_MAX) {
        return tsr_err_set(err, -EINVAL,
                           "%u biases and %u stop strings: at most %d and %d can go with a request",
                           s->bias_count, s->stop_count, TSR_WIRE_BIAS_MAX, TSR_WIRE_STOPS_MAX);
    }
    if (s->stop_bytes > TSR_WIRE_RECORD_BYTES_MAX || s->chunk_bytes > TSR_WIRE_RECORD_BYTES_MAX) {
        return tsr_err_set(err, -EINVAL, "the parts of the submit are longer than any record");
    }
    uint32_t chunk_off = tsr_wire_submit_chunk_off(s->bias_count, s->stop_bytes);
    if (chunk_off + s->chunk_bytes != record_bytes) {
        return tsr_err_set(err, -EINVAL,
                           "the submit's parts end at byte %" PRIu32 " of a record of %" PRIu32,
                           chunk_off + s->chunk_bytes, record_bytes);
    }
    if (s->payload_bytes == 0 || s->chunk_bytes == 0 || s->chunk_bytes > s->payload_bytes) {
        return tsr_err_set(err, -EINVAL,
                           "the prompt has %" PRIu32 " bytes, its first part %" PRIu32,
                           s->payload_bytes, s->chunk_bytes);
    }
    if (s->kind < TSR_PAYLOAD_TEXT || s->kind > TSR_PAYLOAD_TOKENS) {
        return tsr_err_set(err, -EINVAL, "payload kind %u is not known", s->kind);
    }
    if (s->kind == TSR_PAYLOAD_TOKENS && s->payload_bytes % 4) {
        return tsr_err_set(err, -EINVAL, "%" PRIu32 " bytes are no whole number of token ids",
                           s->payload_bytes);
    }
    if (s->flags & ~TSR_SUBMIT_FLAGS_ALL || !all_zero(s->reserved, 6)) {
        return tsr_err_set(err, -EINVAL,
                           "flags 0x%x, or a reserved field, ask for what this version has not",
                           s->flags);
    }
    int result = check_answer(s, err);
    if (result < 0) {
        return result;
    }
    out->submit.fixed = s;
    out->submit.bias = (const void *)(record + sizeof *s);
    out->submit.stops = record + sizeof *s + s->bias_count * sizeof(struct tsr_wire_bias);
    out->submit.chunk = record + chunk_off;
    result = check_sampling(s, err);
    if (!result) {
        result = check_biases(out->submit.bias, s->bias_count, err);
    }
    if (!result) {
        result = check_stops(out->submit.stops, s->stop_bytes, s->stop_count, err);
    }
    return result;
}

static int check_continue(const uint8_t *record, uint32_t record_bytes,
                          struct tsr_wire_request *out, struct tsr_err *err)
{
    const struct tsr_wire_continue *c = (const void *)record;
    if (c->chunk_bytes == 0 || c->chunk_bytes != record_bytes - sizeof *c) {
        return tsr_err_set(err, -EINVAL,
                           "a continuation of %" PRIu32 " bytes in a record of %" PRIu32,
                           c->chunk_bytes, record_bytes);
    }
    out->cont.fixed = c;
    out->cont.chunk = record + sizeof *c;
    return 0;
}

static uint32_t fixed_bytes(uint16_t type)
{
    switch (type) {
    case TSR_REQ_SUBMIT:
        return sizeof(struct tsr_wire_submit);
    case TSR_REQ_CONTINUE:
        return sizeof(struct tsr_wire_continue);
    case TSR_REQ_CREDIT:
        return sizeof(struct tsr_wire_credit);
    case TSR_REQ_CANCEL:
    case TSR_REQ_STATUS:
        return sizeof(struct tsr_wire_plain);
    default:
        return 0;
    }
}

int tsr_wire_check(const void *record, const struct tsr_record_info *info,
                   struct tsr_wire_request *out, struct tsr_err *err)
{
    *out = (struct tsr_wire_request){.type = info->type};
    uint32_t fixed = fixed_bytes(info->type);
    if (!fixed) {
        return tsr_err_set(err, -EPROTO, "a record of type %u: no request has it", info->type);
    }
    if (info->bytes < fixed || info->bytes > TSR_WIRE_RECORD_BYTES_MAX) {
        return tsr_err_set(err, -EPROTO,
                           "a record of type %u with %" PRIu32 " bytes: it needs %" PRIu32 " to %d",
                           info->type, info->bytes, fixed, TSR_WIRE_RECORD_BYTES_MAX);
    }
    /* The id is at the same place in every request. */
    const struct tsr_wire_plain *plain = record;
    if (plain->request == 0) {
        return tsr_err_set(err, -EPROTO, "a record of type %u with request id 0", info->type);
    }
    out->request = plain->request;
    if (info->flags) {
        return tsr_err_set(err, -EINVAL, "record flags 0x%x ask for what this version has not",
                           info->flags);
    }
    switch (info->type) {
    case TSR_REQ_SUBMIT:
        return check_submit(record, info->bytes, out, err);
    case TSR_REQ_CONTINUE:
        return check_continue(record, info->bytes, out, err);
    case TSR_REQ_CREDIT:
        out->credit = record;
        if (info->bytes != fixed || out->credit->reserved) {
            return tsr_err_set(err, -EINVAL, "a credit record with something behind its fields");
        }
        return 0;
    default:
        if (info->bytes != fixed || plain->reserved) {
            return tsr_err_set(err, -EINVAL, "a record of type %u with something behind its fields",
                               info->type);
        }
        return 0;
    }
}

int tsr_wire_stop_next(const struct tsr_wire_request *request, uint32_t *at, const char **text,
                       uint32_t *bytes)
{
    if (*at >= request->submit.fixed->stop_bytes) {
        return 0;
    }
    const uint8_t *stop = request->submit.stops + *at;
    *bytes = load16(stop);
    *text = (const char *)stop + 2;
    *at += 2 + *bytes;
    return 1;
}

/* ---- Chat payloads ---- */

enum { ROLE_BYTES_MAX = 64 };

/* Reads a length at *at; false when it or what it measures does not fit. */
static bool take_length(const struct tsr_wire_chat *chat, uint32_t *at, uint32_t *length)
{
    if (chat->payload_bytes - *at < 4) {
        return false;
    }
    *length = load32(chat->payload + *at);
    *at += 4;
    return *length <= chat->payload_bytes - *at;
}

int tsr_wire_chat_open(struct tsr_wire_chat *chat, const void *payload, uint32_t payload_bytes,
                       struct tsr_err *err)
{
    *chat = (struct tsr_wire_chat){.payload = payload, .payload_bytes = payload_bytes};
    if (payload_bytes < 4) {
        return tsr_err_set(err, -EINVAL, "a chat of %" PRIu32 " bytes has no message count",
                           payload_bytes);
    }
    uint32_t count = load32(chat->payload);
    if (count > TSR_WIRE_MESSAGES_MAX) {
        return tsr_err_set(err, -EINVAL, "a chat of %" PRIu32 " messages: at most %d can be", count,
                           TSR_WIRE_MESSAGES_MAX);
    }
    uint32_t at = 4;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t role, content;
        if (!take_length(chat, &at, &role) || payload_bytes - at < 4) {
            return tsr_err_set(err, -EINVAL,
                               "message %" PRIu32 " of %" PRIu32 " ends outside the chat", i + 1,
                               count);
        }
        if (role == 0 || role > ROLE_BYTES_MAX) {
            return tsr_err_set(err, -EINVAL,
                               "the role of message %" PRIu32 " has %" PRIu32
                               " bytes: 1 to %d can be",
                               i + 1, role, ROLE_BYTES_MAX);
        }
        content = load32(chat->payload + at);
        at += 4;
        if ((uint64_t)role + content > payload_bytes - at) {
            return tsr_err_set(err, -EINVAL,
                               "message %" PRIu32 " of %" PRIu32 " ends outside the chat", i + 1,
                               count);
        }
        at += role + content;
    }
    uint32_t extra;
    if (!take_length(chat, &at, &extra) || extra != payload_bytes - at) {
        return tsr_err_set(err, -EINVAL,
                           "the chat's extra variables do not end where the chat ends");
    }
    if (count == 0 && extra == 0) {
        return tsr_err_set(err, -EINVAL, "a chat without messages");
    }
    chat->at = 4;
    chat->left = chat->count = count;
    return 0;
}

int tsr_wire_chat_next(struct tsr_wire_chat *chat, struct tsr_wire_message *message)
{
    if (chat->left == 0) {
        return 0;
    }
    const uint8_t *at = chat->payload + chat->at;
    message->role_bytes = load32(at);
    message->content_bytes = load32(at + 4);
    message->role = (const char *)at + 8;
    message->content = message->role + message->role_bytes;
    chat->at += 8 + message->role_bytes + message->content_bytes;
    chat->left--;
    return 1;
}

void tsr_wire_chat_extra(const struct tsr_wire_chat *chat, const char **json, uint32_t *bytes)
{
    assert(chat->left == 0);
    *bytes = load32(chat->payload + chat->at);
    *json = *bytes ? (const char *)chat->payload + chat->at + 4 : NULL;
}

uint32_t tsr_wire_chat_bytes(const struct tsr_wire_message *messages, uint32_t count,
                             uint32_t extra_bytes)
{
    if ((count == 0 && extra_bytes == 0) || count > TSR_WIRE_MESSAGES_MAX) {
        return 0;
    }
    uint64_t bytes = 4 + 4 + (uint64_t)extra_bytes;
    for (uint32_t i = 0; i < count; i++) {
        if (messages[i].role_bytes == 0 || messages[i].role_bytes > ROLE_BYTES_MAX) {
            return 0;
        }
        bytes += 8 + (uint64_t)messages[i].role_bytes + messages[i].content_bytes;
    }
    return bytes <= UINT32_MAX ? (uint32_t)bytes : 0;
}

void tsr_wire_chat_build(void *out, const struct tsr_wire_message *messages, uint32_t count,
                         const char *extra, uint32_t extra_bytes)
{
    uint8_t *at = store(out, &count, sizeof count);
    for (uint32_t i = 0; i < count; i++) {
        at = store(at, &messages[i].role_bytes, sizeof(uint32_t));
        at = store(at, &messages[i].content_bytes, sizeof(uint32_t));
        at = store(at, messages[i].role, messages[i].role_bytes);
        at = store(at, messages[i].content, messages[i].content_bytes);
    }
    at = store(at, &extra_bytes, sizeof extra_bytes);
    store(at, extra, extra_bytes);
}

/* ---- Names ---- */

const char *tsr_code_name(uint32_t code)
{
    static const char *const names[] = {
        [TSR_CODE_OK] = "ok",
        [TSR_CODE_INVALID] = "invalid",
        [TSR_CODE_TOO_LARGE] = "too large",
        [TSR_CODE_BUSY] = "busy",
        [TSR_CODE_UNSUPPORTED] = "unsupported",
        [TSR_CODE_FORBIDDEN] = "forbidden",
        [TSR_CODE_DUPLICATE] = "duplicate",
        [TSR_CODE_INTERNAL] = "internal error",
        [TSR_CODE_SHUTDOWN] = "shutting down",
        [TSR_CODE_LIMIT] = "limit reached",
        [TSR_CODE_VERSION] = "another version",
        [TSR_CODE_LIED] = "contract broken",
    };
    return code < sizeof names / sizeof names[0] ? names[code] : "unknown";
}

const char *tsr_reason_name(uint32_t reason)
{
    static const char *const names[] = {
        [0] = "unknown",
        [TSR_REASON_END] = "end",
        [TSR_REASON_STOP] = "stop",
        [TSR_REASON_LENGTH] = "length",
        [TSR_REASON_CANCELLED] = "cancelled",
        [TSR_REASON_DEADLINE] = "deadline",
        [TSR_REASON_PARKED] = "parked",
        [TSR_REASON_ERROR] = "error",
        [TSR_REASON_SHUTDOWN] = "shutdown",
        [TSR_REASON_TOKENIZED] = "tokenized",
        [TSR_REASON_EMBEDDED] = "embedded",
        [TSR_REASON_WRITTEN] = "written",
    };
    return reason < sizeof names / sizeof names[0] ? names[reason] : "unknown";
}
