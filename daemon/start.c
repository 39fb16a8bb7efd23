#include <tsr/daemon/start.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

void tsr_start_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

int tsr_start_signals(int another, struct tsr_err *err)
{
    const int caught[] = {SIGTERM, SIGINT, SIGHUP, another};
    struct sigaction before;
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
        if (caught[i] && sigaction(caught[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            sigaddset(&set, caught[i]);
        }
    }
    signal(SIGPIPE, SIG_IGN);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) {
        return tsr_err_set(err, -EIO, "cannot block signals");
    }
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 ? fd : tsr_err_set(err, -errno, "cannot catch signals: %s", strerror(errno));
}
