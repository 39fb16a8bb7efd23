#include "http3_priv.h"

/* The frames of a client's control stream on their way to nghttp3. Those of RFC 9218, 7.2, which a
 * server may ignore, are taken out: where a packet ends behind the id in such a frame, nghttp3
 * before 1.10 fails an assertion, and with it the process. What follows the number in a frame that
 * is to hold nothing else is an error (RFC 9114, 7.1); nghttp3 would read it as more frames. */

enum {
    CONTROL_STREAM = 0x00,
    GOAWAY = 0x07,
    MAX_PUSH_ID = 0x0d,
    PRIORITY_UPDATE = 0xf0700,
    LONG_VARINT = 0x40
};

static size_t varint_bytes(uint8_t first)
{
    return (size_t)1 << (first >> 6);
}

static uint64_t varint(const uint8_t *bytes)
{
    uint64_t n = bytes[0] & 0x3f;
    for (size_t i = 1; i < varint_bytes(bytes[0]); i++) {
        n = n << 8 | bytes[i];
    }
    return n;
}

/* true: the frame's type and length are whole. */
static bool take_head(struct tsr_http3_control *control, uint8_t byte)
{
    control->head[control->head_bytes++] = byte;
    size_t type = varint_bytes(control->head[0]);
    return control->head_bytes > type &&
           control->head_bytes == type + varint_bytes(control->head[type]);
}

static nghttp3_ssize begin_frame(struct tsr_http3_conn *conn)
{
    struct tsr_http3_control *control = &conn->control;
    uint32_t size = control->head_bytes;
    uint64_t type = varint(control->head);
    control->is_number = type == GOAWAY || type == MAX_PUSH_ID;
    control->skips = type == PRIORITY_UPDATE && control->begun; /* nghttp3 wants SETTINGS first */
    control->begun = true;
    control->left = varint(control->head + varint_bytes(control->head[0]));
    control->head_bytes = 0;
    return control->skips
               ? 0
               : nghttp3_conn_read_stream(conn->http, control->id, control->head, size, 0);
}

static nghttp3_ssize read_frames(struct tsr_http3_conn *conn, const uint8_t *data, size_t size)
{
    struct tsr_http3_control *control = &conn->control;
    nghttp3_ssize rc = 0;
    for (size_t at = 0; at < size && rc >= 0;) {
        if (control->is_number && control->left) {
            control->is_number = false;
            rc = control->left == varint_bytes(data[at]) ? 0 : NGHTTP3_ERR_H3_FRAME_ERROR;
        } else if (control->left) {
            size_t n = control->left < size - at ? (size_t)control->left : size - at;
            rc = control->skips
                     ? 0
                     : nghttp3_conn_read_stream(conn->http, control->id, data + at, n, 0);
            control->left -= n;
            at += n;
        } else if (take_head(control, data[at++])) {
            rc = begin_frame(conn);
        }
    }
    return rc;
}

static nghttp3_ssize read_control(struct tsr_http3_conn *conn, const uint8_t *data, size_t size,
                                  bool fin)
{
    nghttp3_ssize rc = read_frames(conn, data, size);
    if (rc >= 0 && fin) {
        rc = nghttp3_conn_read_stream(conn->http, conn->control.id, NULL, 0, 1);
    }
    return rc < 0 ? rc : (nghttp3_ssize)size;
}

nghttp3_ssize tsr_http3_control_read(struct tsr_http3_conn *conn, int64_t id, uint64_t offset,
                                     const uint8_t *data, size_t size, bool fin)
{
    struct tsr_http3_control *control = &conn->control;
    if (id == control->id) {
        return read_control(conn, data, size, fin);
    }
    if (offset == 0 && size && data[0] >= LONG_VARINT) {
        ngtcp2_conn_shutdown_stream_read(conn->quic, 0, id, NGHTTP3_H3_STREAM_CREATION_ERROR);
        return (nghttp3_ssize)size;
    }
    if (offset == 0 && size && data[0] == CONTROL_STREAM && control->id < 0) {
        control->id = id;
        nghttp3_ssize rc = nghttp3_conn_read_stream(conn->http, id, data, 1, 0);
        rc = rc < 0 ? rc : read_control(conn, data + 1, size - 1, fin);
        return rc < 0 ? rc : (nghttp3_ssize)size;
    }
    return nghttp3_conn_read_stream(conn->http, id, data, size, fin);
}
