/* A fake libnvidia-ml.so.1, for the real nvidia-ml-py on a machine without a GPU.
 *
 * It does what the text file named by FAKE_NVML says, read again at every call (replace the file with a rename):
 *
 *   gpu UUID BYTES...                     a GPU; its memory at the 1st, 2nd, ... call, the last one for good
 *   mig UUID GPU BYTES...                 an instance inside GPU number GPU (from 0), which is then in MIG mode
 *   reserved BYTES                        what the driver keeps: v1 counts it as used, v2 apart
 *   error FUNCTION CODE [FIRST [LAST]]    FUNCTION answers CODE, from its FIRST to its LAST call (from 1)
 *   latency FUNCTION MICROSECONDS
 *   hang FUNCTION                         until the file says so no more
 *
 * FUNCTION is the exported name, or that name, a colon and a UUID for one device. nvmlInitWithFlags counts from 1 again.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };
enum { DEVICES = 32, NAMES = 64, NAME = 160, LINE = 65536 };

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { char uuid[NAME]; int parent; unsigned long long used; } device; /* parent: -1 for a GPU */
typedef struct { device devices[DEVICES]; int count; unsigned long long reserved; } machine;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { char name[NAME]; int calls; } counters[NAMES];
static int initialised;

static int *counter(const char *name) {
    for (int i = 0; i < NAMES - 1; i++) {
        if (!counters[i].name[0]) snprintf(counters[i].name, NAME, "%s", name);
        if (!strcmp(counters[i].name, name)) return &counters[i].calls;
    }
    return &counters[NAMES - 1].calls;
}

/* Number of calls of a function since initialisation: for tests to ask. */
int fake_nvml_calls(const char *name) {
    pthread_mutex_lock(&lock);
    int calls = *counter(name);
    pthread_mutex_unlock(&lock);
    return calls;
}

static FILE *script(void) {
    const char *path = getenv("FAKE_NVML");
    return path ? fopen(path, "r") : NULL;
}

static int code_of(const char *name, int call, int *microseconds, int *hangs) {
    char line[LINE], word[16], function[NAME];
    int code = OK;
    FILE *file = script();
    if (!file) return DRIVER_NOT_LOADED;
    *microseconds = *hangs = 0;
    while (fgets(line, LINE, file)) {
        int a = 0, first = 1, last = 1 << 30;
        if (sscanf(line, "%15s %159s %d %d %d", word, function, &a, &first, &last) < 2 || strcmp(function, name)) continue;
        if (!strcmp(word, "error") && call >= first && call <= last) code = a;
        if (!strcmp(word, "latency")) *microseconds = a;
        if (!strcmp(word, "hang")) *hangs = 1;
    }
    fclose(file);
    return code;
}

/* What every function does first: count, hang, wait, fail. */
static int enter(const char *name) {
    int microseconds, hangs;
    pthread_mutex_lock(&lock);
    int call = ++*counter(name);
    pthread_mutex_unlock(&lock);
    int code = code_of(name, call, &microseconds, &hangs);
    while (hangs) {
        usleep(2000);
        code_of(name, call, &microseconds, &hangs);
    }
    if (microseconds) usleep(microseconds);
    return code ? code : initialised ? OK : UNINITIALIZED;
}

static int enter_for(const char *name, const char *uuid) {
    char both[2 * NAME];
    int code = enter(name);
    snprintf(both, NAME, "%s:%s", name, uuid);
    return code ? code : enter(both);
}

static unsigned long long at_call(char *values, int call) {
    unsigned long long value = 0;
    for (char *end; call-- > 0; values = end) {
        unsigned long long next = strtoull(values, &end, 10);
        if (end == values) break;
        value = next;
    }
    return value;
}

static void add(machine *m, const char *line, int offset, const char *uuid, int parent) {
    char key[NAME];
    device *d = &m->devices[m->count++];
    snprintf(d->uuid, NAME, "%s", uuid);
    snprintf(key, NAME, "memory:%.120s", uuid);
    d->parent = parent;
    pthread_mutex_lock(&lock);
    d->used = at_call((char *)line + offset, *counter(key));
    pthread_mutex_unlock(&lock);
}

static machine read_machine(void) {
    machine m = {.count = 0};
    char line[LINE], uuid[120];
    FILE *file = script();
    while (file && fgets(line, LINE, file) && m.count < DEVICES) {
        int offset = 0, parent = -1;
        if (sscanf(line, "gpu %119s%n", uuid, &offset) == 1) add(&m, line, offset, uuid, -1);
        else if (sscanf(line, "mig %119s %d%n", uuid, &parent, &offset) == 2) add(&m, line, offset, uuid, parent);
        else sscanf(line, "reserved %llu", &m.reserved);
    }
    if (file) fclose(file);
    return m;
}

/* A handle is the device's place in the file, from 1. */
static int find(const machine *m, int parent, unsigned index, void **handle) {
    for (int i = 0; i < m->count; i++)
        if ((parent < 0 ? m->devices[i].parent < 0 : m->devices[i].parent == parent) && index-- == 0) {
            *handle = (void *)(long)(i + 1);
            return OK;
        }
    return NOT_FOUND;
}

static const device *at(const machine *m, void *handle) {
    long i = (long)handle;
    return i >= 1 && i <= m->count ? &m->devices[i - 1] : NULL;
}

/* Number of a GPU among the GPUs, or -1 for an instance. */
static int gpu_number(const machine *m, const device *d) {
    int number = 0;
    for (const device *other = m->devices; other < d; other++) number += other->parent < 0;
    return d->parent < 0 ? number : -1;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    memset(counters, 0, sizeof counters);
    pthread_mutex_unlock(&lock);
    initialised = 1;
    int code = enter("nvmlInitWithFlags");
    initialised = code == OK;
    return code;
}

int nvmlShutdown(void) {
    int code = enter("nvmlShutdown");
    initialised = 0;
    return code;
}

const char *nvmlErrorString(int code) {
    return code == OK ? "Success" : "an error of the fake library";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = enter("nvmlDeviceGetCount_v2");
    machine m = read_machine();
    *count = 0;
    for (int i = 0; i < m.count; i++) *count += m.devices[i].parent < 0;
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    int code = enter("nvmlDeviceGetHandleByIndex_v2");
    if (code) return code;
    machine m = read_machine();
    if (find(&m, -1, index, handle)) return INVALID_ARGUMENT;
    return enter_for("nvmlDeviceGetHandleByIndex_v2", at(&m, *handle)->uuid);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    int code = enter("nvmlDeviceGetHandleByUUID");
    machine m = read_machine();
    for (int i = 0; !code && i < m.count; i++)
        if (!strcmp(m.devices[i].uuid, uuid)) {
            *handle = (void *)(long)(i + 1);
            return OK;
        }
    return code ? code : NOT_FOUND;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    machine m = read_machine();
    const device *d = at(&m, handle);
    int code = d ? enter_for("nvmlDeviceGetUUID", d->uuid) : INVALID_ARGUMENT;
    if (!code) snprintf(uuid, length, "%s", d->uuid);
    return code;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    int code = enter("nvmlDeviceGetMigMode");
    machine m = read_machine();
    const device *d = at(&m, handle);
    void *instance;
    if (code || !d) return code ? code : INVALID_ARGUMENT;
    if (d->parent >= 0) return NOT_SUPPORTED;
    *current = *pending = find(&m, gpu_number(&m, d), 0, &instance) == OK;
    return OK;
}

/* Moves the device one step along its curve. */
static int memory(const char *name, void *handle, device *copy, unsigned long long *reserved) {
    machine m = read_machine();
    const device *d = at(&m, handle);
    char key[NAME];
    if (!d) return INVALID_ARGUMENT;
    int code = enter_for(name, d->uuid);
    if (code) return code;
    snprintf(key, NAME, "memory:%.120s", d->uuid);
    pthread_mutex_lock(&lock);
    ++*counter(key);
    pthread_mutex_unlock(&lock);
    m = read_machine();
    *copy = *at(&m, handle);
    *reserved = m.reserved;
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *out) {
    device d;
    unsigned long long reserved;
    int code = memory("nvmlDeviceGetMemoryInfo", handle, &d, &reserved);
    if (!code) *out = (memory_v1){.total = 1ULL << 40, .used = d.used + reserved};
    return code;
}

#ifndef WITHOUT_MEMORY_V2
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *out) {
    device d;
    unsigned long long reserved;
    if (out->version != (sizeof(memory_v2) | 2u << 24)) return 25; /* ARGUMENT_VERSION_MISMATCH */
    int code = memory("nvmlDeviceGetMemoryInfo_v2", handle, &d, &reserved);
    if (!code) *out = (memory_v2){.version = out->version, .total = 1ULL << 40, .reserved = reserved, .used = d.used};
    return code;
}
#endif
