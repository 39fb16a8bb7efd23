#include <tsr/uring/ring.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static int refused(int rc, struct tsr_err *err)
{
    switch (rc) {
    case -EPERM:
    case -EACCES:
        return tsr_err_set(err, rc,
                           "io_uring is forbidden here (%s), and this door has no other way to the "
                           "network: in a container allow the calls io_uring_setup, io_uring_enter "
                           "and io_uring_register in its seccomp profile; on a host set "
                           "kernel.io_uring_disabled=0",
                           strerror(-rc));
    case -ENOSYS:
        return tsr_err_set(err, rc,
                           "this kernel has no io_uring, and this door has no other way to the "
                           "network: Linux 6.1 or newer, built with CONFIG_IO_URING, is wanted (a "
                           "sandbox such as gVisor has none)");
    case -EINVAL:
        return tsr_err_set(err, rc,
                           "this kernel's io_uring is too old: Linux 6.1 or newer is wanted");
    default:
        return tsr_err_set(err, rc, "cannot set up io_uring: %s", strerror(-rc));
    }
}

static int make_buffers(struct tsr_uring *uring, struct tsr_err *err)
{
    const size_t table = TSR_URING_BUFFERS * sizeof(struct io_uring_buf);
    void *memory = mmap(NULL, table + TSR_URING_BUFFERS * (size_t)TSR_URING_BUFFER_BYTES,
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return tsr_err_set(err, -errno, "no memory for receive buffers: %s", strerror(errno));
    }
    uring->buffers = memory;
    uring->bytes = (uint8_t *)memory + table;
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)memory,
        .ring_entries = TSR_URING_BUFFERS,
    };
    int rc = io_uring_register_buf_ring(&uring->ring, &reg, 0);
    if (rc < 0) {
        return refused(rc, err);
    }
    io_uring_buf_ring_init(uring->buffers);
    for (uint32_t i = 0; i < TSR_URING_BUFFERS; i++) {
        tsr_uring_give(uring, i << IORING_CQE_BUFFER_SHIFT);
    }
    return 0;
}

int tsr_uring_open(struct tsr_uring *uring, struct tsr_err *err)
{
    memset(uring, 0, sizeof *uring);
    struct io_uring_params params = {
        .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE,
        .cq_entries = TSR_URING_COMPLETIONS,
    };
    int rc = io_uring_queue_init_params(TSR_URING_ENTRIES, &uring->ring, &params);
    if (rc < 0) {
        return refused(rc, err);
    }
    (void)io_uring_register_ring_fd(&uring->ring); /* saves each call a look-up */
    rc = make_buffers(uring, err);
    if (rc < 0) {
        tsr_uring_close(uring);
    }
    return rc;
}

void tsr_uring_close(struct tsr_uring *uring)
{
    if (uring->ring.ring_fd > 0) {
        io_uring_queue_exit(&uring->ring);
    }
    if (uring->buffers) {
        munmap(uring->buffers,
               TSR_URING_BUFFERS * (sizeof(struct io_uring_buf) + (size_t)TSR_URING_BUFFER_BYTES));
    }
    memset(uring, 0, sizeof *uring);
}

int tsr_uring_enable(struct tsr_uring *uring, struct tsr_err *err)
{
    static const uint8_t operations[] = {
        IORING_OP_ACCEPT,   IORING_OP_RECV,         IORING_OP_SEND,  IORING_OP_SENDMSG,
        IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE,
    };
    enum { OPERATIONS = sizeof operations };
    struct io_uring_restriction rules[OPERATIONS + 1] = {{
        .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
        .sqe_flags = IOSQE_BUFFER_SELECT,
    }};
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        rules[i + 1].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i + 1].sqe_op = operations[i];
    }
    /* liburing 2.3 declares functions for these two, and forgets to export them. */
    unsigned fd = (unsigned)uring->ring.ring_fd;
    int rc = io_uring_register(fd, IORING_REGISTER_RESTRICTIONS, rules, OPERATIONS + 1);
    rc = rc < 0 ? rc : io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    return rc < 0 ? refused(rc, err) : 0;
}

struct io_uring_sqe *tsr_uring_next(struct tsr_uring *uring, enum tsr_uring_kind kind,
                                    uint32_t owner)
{
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&uring->ring))) {
        uring->enters++;
        io_uring_submit(&uring->ring);
    }
    sqe->user_data = tsr_uring_tag(kind, owner);
    return sqe;
}

static uint32_t buffer_of(uint32_t cqe_flags)
{
    return cqe_flags >> IORING_CQE_BUFFER_SHIFT;
}

uint8_t *tsr_uring_buffer(const struct tsr_uring *uring, uint32_t cqe_flags)
{
    return uring->bytes + (size_t)buffer_of(cqe_flags) * TSR_URING_BUFFER_BYTES;
}

void tsr_uring_give(struct tsr_uring *uring, uint32_t cqe_flags)
{
    io_uring_buf_ring_add(uring->buffers, tsr_uring_buffer(uring, cqe_flags),
                          TSR_URING_BUFFER_BYTES, (unsigned short)buffer_of(cqe_flags),
                          io_uring_buf_ring_mask(TSR_URING_BUFFERS), (int)uring->given++);
}

static void show_buffers(struct tsr_uring *uring)
{
    if (uring->given) {
        io_uring_buf_ring_advance(uring->buffers, (int)uring->given);
        uring->given = 0;
    }
}

int tsr_uring_enter(struct tsr_uring *uring, uint64_t sleep_ns)
{
    struct io_uring *ring = &uring->ring;
    struct io_uring_cqe *cqe;
    int rc = 0;
    show_buffers(uring);
    if (sleep_ns) {
        struct __kernel_timespec limit = {
            .tv_sec = (long long)(sleep_ns / 1000000000u),
            .tv_nsec = (long long)(sleep_ns % 1000000000u),
        };
        uring->enters++;
        rc = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &limit, NULL);
    } else if (io_uring_sq_ready(ring) || (IO_URING_READ_ONCE(*ring->sq.kflags) &
                                           (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))) {
        uring->enters++;
        rc = io_uring_submit_and_get_events(ring);
    }
    return rc == -ETIME || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY ? 0 : rc < 0 ? rc : 0;
}
