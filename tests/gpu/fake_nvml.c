/* A fake libnvidia-ml.so.1, for the real nvidia-ml-py on a machine without a GPU.
 *
 * It does what the text file named by FAKE_NVML says, read again at every call (replace the file with a rename):
 *
 *   gpu UUID BYTES...                     a GPU; its memory at the 1st, 2nd, ... call, the last one for good
 *   mig UUID GPU BYTES...                 an instance inside GPU number GPU (from 0), which is then in MIG mode
 *   reserved BYTES                        what the driver keeps: v1 counts it as used, v2 apart
 *   energy UUID MW PERIOD_MS [MJ]         a counter that MW of power drive since the clock's zero, renewed every PERIOD_MS,
 *                                         from MJ on
 *   power UUID MW                         field 186, instantaneous
 *   average UUID MW                       nvmlDeviceGetPowerUsage
 *   utilization UUID PERCENT, temperature UUID CELSIUS, clock UUID MHZ, throttle UUID BITS
 *   process UUID PID                      computes there
 *   error FUNCTION CODE [FIRST [LAST]]    FUNCTION answers CODE, from its FIRST to its LAST call (from 1)
 *   latency FUNCTION MICROSECONDS
 *   hang FUNCTION                         until the file says so no more
 *
 * What a device is not given is NOT_SUPPORTED there. FUNCTION is the exported name, or that name, a colon and a UUID for one
 * device. nvmlInitWithFlags counts from 1 again. Every call is a line "PID FUNCTION" in the file named by FAKE_NVML_LOG.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };
enum { DEVICES = 32, NAMES = 64, NAME = 160, LINE = 65536 };

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned field, scope; long long at, latency; int type, code; unsigned long long value; } field_value;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned instances[2]; } process;
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

/* All functions count from 1 again. */
void fake_nvml_forget(void) {
    pthread_mutex_lock(&lock);
    memset(counters, 0, sizeof counters);
    pthread_mutex_unlock(&lock);
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

/* Appended at once, whoever else appends. */
static void note(const char *name) {
    char line[NAME + 32];
    const char *path = getenv("FAKE_NVML_LOG");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file < 0) return;
    int length = snprintf(line, sizeof line, "%d %s\n", getpid(), name);
    if (write(file, line, length) != length) perror(path);
    close(file);
}

/* What every function does first: count, hang, wait, fail. */
static int enter(const char *name) {
    int microseconds, hangs;
    note(name);
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

/* The numbers that the script has for a device behind a word; how many there are. */
static int numbers(const char *wanted, const char *uuid, unsigned long long *out, int most) {
    char line[LINE], word[16], name[NAME];
    int count = 0, offset = 0;
    FILE *file = script();
    while (file && fgets(line, LINE, file)) {
        if (sscanf(line, "%15s %159s%n", word, name, &offset) < 2 || strcmp(word, wanted) || strcmp(name, uuid)) continue;
        char *at = line + offset, *end;
        for (; count < most; at = end) {
            unsigned long long number = strtoull(at, &end, 0);
            if (end == at) break;
            out[count++] = number;
        }
    }
    if (file) fclose(file);
    return count;
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
    fake_nvml_forget();
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

/* The one number of a device behind a word. */
static int number(const char *function, void *handle, const char *word, unsigned long long *out) {
    machine m = read_machine();
    const device *d = at(&m, handle);
    int code = d ? enter_for(function, d->uuid) : INVALID_ARGUMENT;
    return code ? code : numbers(word, d->uuid, out, 1) ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
    unsigned long long v[3] = {0};
    struct timespec now;
    machine m = read_machine();
    const device *d = at(&m, handle);
    int code = d ? enter_for("nvmlDeviceGetTotalEnergyConsumption", d->uuid) : INVALID_ARGUMENT;
    if (code) return code;
    if (numbers("energy", d->uuid, v, 3) < 2) return NOT_SUPPORTED;
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned long long milliseconds = now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
    *millijoules = v[2] + v[0] * (milliseconds / v[1] * v[1]) / 1000;
    return OK;
}

int nvmlDeviceGetFieldValues(void *handle, int count, field_value *values) {
    unsigned long long power = 0;
    int code = number("nvmlDeviceGetFieldValues", handle, "power", &power);
    if (code && code != NOT_SUPPORTED) return code;
    for (int i = 0; i < count; i++) {
        values[i].type = 1; /* unsigned int */
        values[i].code = values[i].field == 186 ? code : NOT_SUPPORTED;
        values[i].value = power;
    }
    return OK;
}

static int small_number(const char *function, void *handle, const char *word, unsigned *out) {
    unsigned long long value = 0;
    int code = number(function, handle, word, &value);
    *out = value;
    return code;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    return small_number("nvmlDeviceGetPowerUsage", handle, "average", milliwatts);
}

int nvmlDeviceGetUtilizationRates(void *handle, utilization *out) {
    out->memory = 0;
    return small_number("nvmlDeviceGetUtilizationRates", handle, "utilization", &out->gpu);
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    return sensor ? INVALID_ARGUMENT : small_number("nvmlDeviceGetTemperature", handle, "temperature", celsius);
}

int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *mhz) {
    return type != 1 ? INVALID_ARGUMENT : small_number("nvmlDeviceGetClockInfo", handle, "clock", mhz);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *bits) {
    return number("nvmlDeviceGetCurrentClocksThrottleReasons", handle, "throttle", bits);
}

#ifndef BEFORE_535
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *bits) {
    return number("nvmlDeviceGetCurrentClocksEventReasons", handle, "throttle", bits);
}
#endif

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process *out) {
    unsigned long long pids[16];
    machine m = read_machine();
    const device *d = at(&m, handle);
    int code = d ? enter_for("nvmlDeviceGetComputeRunningProcesses_v3", d->uuid) : INVALID_ARGUMENT;
    if (code) return code;
    unsigned found = numbers("process", d->uuid, pids, 16), room = *count;
    *count = found;
    if (found > room) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < found; i++) out[i] = (process){.pid = pids[i]};
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    (void)handle;
    *count = 7;
    return enter("nvmlDeviceGetMaxMigDeviceCount");
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **instance) {
    int code = enter("nvmlDeviceGetMigDeviceHandleByIndex");
    machine m = read_machine();
    const device *d = at(&m, handle);
    return code ? code : d ? find(&m, gpu_number(&m, d), index, instance) : INVALID_ARGUMENT;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    (void)handle;
    snprintf(name, length, "Fake GPU");
    return enter("nvmlDeviceGetName");
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "575.57");
    return enter("nvmlSystemGetDriverVersion");
}
