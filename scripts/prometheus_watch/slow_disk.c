// A disk that syncs slowly while the file SLOW_DISK is there: to be preloaded into a node (LD_PRELOAD).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int descriptor)
{
    static int (*real)(int);
    const char *sign = getenv("SLOW_DISK");
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (sign && access(sign, F_OK) == 0)
        usleep(300000);
    return real(descriptor);
}
