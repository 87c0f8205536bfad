/* A recv() that lies about how much the engine sent wherever a mark stands in it: who believes that panics. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/socket.h>

static const char MARK[] = "provoke a panic";
static const ssize_t LIE = 1L << 40;

ssize_t recv(int socket, void *buffer, size_t length, int flags) {
    ssize_t (*real)(int, void *, size_t, int) = dlsym(RTLD_NEXT, "recv");
    ssize_t got = real(socket, buffer, length, flags);
    return got > 0 && memmem(buffer, got, MARK, sizeof MARK - 1) ? LIE : got;
}
