/* A stand-in for libnvidia-ml.so.1, so that the real Python binding can be tested without a driver.
 *
 * The host it shows: GPU 0 whole, GPU 1 whole, GPU 2 in MIG mode with slot 1 empty; asked for, GPU 3 in MIG mode, too.
 * NVML_STUB scripts it: entries FUNCTION=WHAT or FUNCTION=WHAT@GPU with commas between, WHAT being an NVML error code,
 *   `hang`, `crash` or `noise` (prints on standard output and goes on). The function `load` is the loading itself.
 * NVML_STUB_GPUS=N shows the first N, else it is three. NVML_STUB_LOG=FILE gets a line for each call.
 * NVML_STUB_SAMPLES="PERCENT PERCENT …" is what the buffer of GPU utilisation holds, a sixth of a second apart, the
 *   newest NVML_STUB_AGE seconds old; NVML_STUB_RATE=PERCENT the present utilisation. Without them it is not supported.
 * NVML_STUB_GPM="GPU/GPU_INSTANCE=PERCENT …" is how busy instances are by the performance counters (GPM); a GPU that is
 *   not named supports none. Its two samples must be a tenth of a second apart. In NVML_STUB, `metric` is the code that
 *   comes with a value. NVML_STUB_REMADE=GPU gives its MIG devices other UUIDs once that GPU was sampled.
 * To add a call: one function that begins with SCRIPT(gpu) and answers from the table.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, ARGUMENT_VERSION_MISMATCH = 25 };
enum { SLOTS = 7, ANY = -1 };

struct mig {
    const char *uuid; /* NULL: the slot is empty */
    unsigned gpu_instance, compute_instance;
};

struct gpu {
    const char *uuid, *name, *bus;
    unsigned minor;
    int mig_capable;
    unsigned mig_current, mig_pending;
    struct mig slots[SLOTS];
};

static const struct gpu gpus[] = {
    {"GPU-00000000-1111-4000-8000-000000000000", "NVIDIA Stub 40GB", "00000000:07:00.0", 0, 0, 0, 0, {{0}}},
    {"GPU-00000000-1111-4000-8000-000000000001", "NVIDIA Stub 40GB", "00000000:0F:00.0", 1, 1, 0, 0, {{0}}},
    {"GPU-00000000-1111-4000-8000-000000000002", "NVIDIA Stub 80GB", "00000001:47:00.0", 4, 1, 1, 1,
     {{"MIG-00000000-2222-5000-8000-000000000000", 2, 0},
      {NULL, 0, 0},
      {"MIG-00000000-2222-5000-8000-000000000002", 9, 0},
      {"MIG-00000000-2222-5000-8000-000000000003", 9, 1}}},
    {"GPU-00000000-1111-4000-8000-000000000003", "NVIDIA Stub 80GB", "00000001:4E:00.0", 5, 1, 1, 1,
     {{"MIG-00000000-3333-5000-8000-000000000000", 1, 0}, {"MIG-00000000-3333-5000-8000-000000000001", 9, 0}}},
};
enum { GPUS = sizeof gpus / sizeof *gpus };

/* What a handle points to: a GPU, or one of its slots. */
struct handle {
    int gpu, slot;
};
static struct handle handles[GPUS][SLOTS + 1];

/* nvmlPciInfo_t */
struct pci_info {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};

static int scripted(const char *function, int gpu) {
    const char *log = getenv("NVML_STUB_LOG");
    if (log) {
        FILE *file = fopen(log, "a");
        if (file) {
            fprintf(file, "%s\n", function);
            fclose(file);
        }
    }
    const char *script = getenv("NVML_STUB");
    size_t length = strlen(function);
    for (const char *entry = script; entry && *entry; entry = strchr(entry, ',') ? strchr(entry, ',') + 1 : NULL) {
        if (strncmp(entry, function, length) != 0 || entry[length] != '=')
            continue;
        const char *what = entry + length + 1;
        size_t size = strcspn(what, ",");
        const char *at = memchr(what, '@', size);
        if (at && atoi(at + 1) != gpu)
            continue;
        if (strncmp(what, "hang", 4) == 0)
            for (;;)
                pause();
        if (strncmp(what, "crash", 5) == 0)
            raise(SIGSEGV);
        if (strncmp(what, "noise", 5) == 0) {
            printf("the library says hello\n");
            fflush(stdout);
            continue;
        }
        return atoi(what);
    }
    return SUCCESS;
}

#define SCRIPT(gpu)                            \
    do {                                       \
        int code = scripted(__func__, (gpu));  \
        if (code != SUCCESS)                   \
            return code;                       \
    } while (0)

__attribute__((constructor)) static void load(void) {
    scripted("load", ANY);
}

static unsigned count(void) {
    const char *limit = getenv("NVML_STUB_GPUS");
    return limit ? (unsigned)atoi(limit) : 3;
}

static int put(char *buffer, unsigned size, const char *text) {
    snprintf(buffer, size, "%s", text);
    return SUCCESS;
}

static const struct mig *slot_of(const struct handle *device) {
    return &gpus[device->gpu].slots[device->slot];
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    SCRIPT(ANY);
    return SUCCESS;
}

int nvmlShutdown(void) {
    SCRIPT(ANY);
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error of the stub";
}

int nvmlDeviceGetCount_v2(unsigned *answer) {
    SCRIPT(ANY);
    *answer = count();
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct handle **device) {
    SCRIPT((int)index);
    if (index >= count())
        return INVALID_ARGUMENT;
    handles[index][SLOTS].gpu = (int)index;
    handles[index][SLOTS].slot = ANY;
    *device = &handles[index][SLOTS];
    return SUCCESS;
}

static int sampled[GPUS]; /* whose performance counters were sampled */

int nvmlDeviceGetUUID(struct handle *device, char *uuid, unsigned size) {
    SCRIPT(device->gpu);
    const char *remade = getenv("NVML_STUB_REMADE");
    if (remade && device->slot != ANY && sampled[device->gpu] && atoi(remade) == device->gpu)
        return put(uuid, size, "MIG-ffffffff-2222-5000-8000-000000000000");
    return put(uuid, size, device->slot == ANY ? gpus[device->gpu].uuid : slot_of(device)->uuid);
}

int nvmlDeviceGetName(struct handle *device, char *name, unsigned size) {
    SCRIPT(device->gpu);
    return put(name, size, gpus[device->gpu].name);
}

int nvmlDeviceGetPciInfo_v3(struct handle *device, struct pci_info *info) {
    SCRIPT(device->gpu);
    memset(info, 0, sizeof *info);
    put(info->bus_id, sizeof info->bus_id, gpus[device->gpu].bus);
    return put(info->bus_id_legacy, sizeof info->bus_id_legacy, gpus[device->gpu].bus + 4);
}

int nvmlDeviceGetMinorNumber(struct handle *device, unsigned *minor) {
    SCRIPT(device->gpu);
    *minor = gpus[device->gpu].minor;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(struct handle *device, unsigned *current, unsigned *pending) {
    SCRIPT(device->gpu);
    if (!gpus[device->gpu].mig_capable)
        return NOT_SUPPORTED;
    *current = gpus[device->gpu].mig_current;
    *pending = gpus[device->gpu].mig_pending;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(struct handle *device, unsigned *answer) {
    SCRIPT(device->gpu);
    *answer = gpus[device->gpu].mig_capable ? SLOTS : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct handle *device, unsigned index, struct handle **mig) {
    SCRIPT(device->gpu);
    if (index >= SLOTS)
        return INVALID_ARGUMENT;
    if (!gpus[device->gpu].slots[index].uuid)
        return NOT_FOUND;
    handles[device->gpu][index].gpu = device->gpu;
    handles[device->gpu][index].slot = (int)index;
    *mig = &handles[device->gpu][index];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(struct handle *device, unsigned *id) {
    SCRIPT(device->gpu);
    if (device->slot == ANY)
        return NOT_SUPPORTED;
    *id = slot_of(device)->gpu_instance;
    return SUCCESS;
}

int nvmlDeviceGetComputeInstanceId(struct handle *device, unsigned *id) {
    SCRIPT(device->gpu);
    if (device->slot == ANY)
        return NOT_SUPPORTED;
    *id = slot_of(device)->compute_instance;
    return SUCCESS;
}

/* nvmlSample_t */
struct sample {
    unsigned long long time_us;
    union {
        double real;
        unsigned whole;
        unsigned long long longest;
    } value;
};

int nvmlDeviceGetSamples(struct handle *device, int sampling, unsigned long long since, int *type, unsigned *size,
                         struct sample *samples) {
    SCRIPT(device->gpu);
    (void)sampling;
    (void)since;
    const char *text = getenv("NVML_STUB_SAMPLES"), *age = getenv("NVML_STUB_AGE");
    if (!text)
        return NOT_SUPPORTED;
    unsigned total = 0;
    for (const char *at = text; *at; at++)
        total += *at != ' ' && (at[1] == ' ' || !at[1]);
    *type = 1; /* NVML_VALUE_TYPE_UNSIGNED_INT */
    *size = total;
    for (unsigned index = 0; samples && index < total; index++) {
        char *rest;
        samples[index].value.longest = 0xffffffff00000000ull; /* what a wider read would see */
        samples[index].value.whole = (unsigned)strtoul(text, &rest, 10);
        samples[index].time_us =
            (unsigned long long)(time(NULL) - (age ? atoi(age) : 0)) * 1000000ull - (total - 1 - index) * 166667ull;
        text = rest;
    }
    return SUCCESS;
}

/* nvmlUtilization_t */
struct utilization {
    unsigned gpu, memory;
};

int nvmlDeviceGetUtilizationRates(struct handle *device, struct utilization *rates) {
    SCRIPT(device->gpu);
    const char *rate = getenv("NVML_STUB_RATE");
    if (!rate)
        return NOT_SUPPORTED;
    rates->gpu = (unsigned)atoi(rate);
    rates->memory = 0;
    return SUCCESS;
}

/* nvmlGpmSample_t points to one */
struct gpm_sample {
    int gpu;
    unsigned gpu_instance;
    struct timespec at;
};

/* nvmlGpmSupport_t */
struct gpm_support {
    unsigned version, supported;
};

/* nvmlGpmMetricsGet_t, as far as it is read */
struct gpm_metrics {
    unsigned version, count;
    struct gpm_sample *first, *second;
    struct {
        unsigned id;
        int code;
        double value;
    } metric;
};

/* What NVML_STUB_GPM says of an instance, or of any of a GPU (instance ANY). */
static const char *percent_of(int gpu, int instance) {
    const char *at = getenv("NVML_STUB_GPM");
    while (at && *at) {
        int one, other, length = 0;
        if (sscanf(at, "%d/%d=%n", &one, &other, &length) == 2 && one == gpu && (instance == ANY || other == instance))
            return at + length;
        at = strchr(at, ' ');
        at += at != NULL;
    }
    return NULL;
}

int nvmlGpmQueryDeviceSupport(struct handle *device, struct gpm_support *support) {
    SCRIPT(device->gpu);
    if (support->version != 1)
        return ARGUMENT_VERSION_MISMATCH;
    if (device->slot != ANY)
        return INVALID_ARGUMENT;
    support->supported = percent_of(device->gpu, ANY) != NULL;
    return SUCCESS;
}

int nvmlGpmSampleAlloc(struct gpm_sample **sample) {
    SCRIPT(ANY);
    *sample = calloc(1, sizeof **sample);
    return SUCCESS;
}

int nvmlGpmSampleFree(struct gpm_sample *sample) {
    SCRIPT(ANY);
    free(sample);
    return SUCCESS;
}

int nvmlGpmMigSampleGet(struct handle *device, unsigned gpu_instance, struct gpm_sample *sample) {
    SCRIPT(device->gpu);
    if (device->slot != ANY)
        return INVALID_ARGUMENT;
    sampled[device->gpu] = 1;
    sample->gpu = device->gpu;
    sample->gpu_instance = gpu_instance;
    clock_gettime(CLOCK_MONOTONIC, &sample->at);
    return SUCCESS;
}

int nvmlGpmMetricsGet(struct gpm_metrics *metrics) {
    const struct gpm_sample *first = metrics->first, *second = metrics->second;
    SCRIPT(first->gpu);
    if (metrics->version != 1)
        return ARGUMENT_VERSION_MISMATCH;
    double apart = difftime(second->at.tv_sec, first->at.tv_sec) + 1e-9 * (double)(second->at.tv_nsec - first->at.tv_nsec);
    if (metrics->count != 1 || metrics->metric.id != 1 || first == second || first->gpu != second->gpu ||
        first->gpu_instance != second->gpu_instance || apart <= 0.1)
        return INVALID_ARGUMENT;
    const char *percent = percent_of(first->gpu, (int)first->gpu_instance);
    metrics->metric.code = percent ? scripted("metric", first->gpu) : NOT_FOUND;
    metrics->metric.value = percent ? strtod(percent, NULL) : 0;
    return SUCCESS;
}

/* ── health and processes ─────────────────────────────────────────────────────────────────────────────────────────── *
 *
 * NVML_STUB_HEALTH="NAME=NUMBER@GPU …" (@GPU may be left out) gives: memory (MiB used), reserved (MiB), display,
 *   persistence, recovery, remap_pending, remap_failure, ecc, links (active NVLinks), ports (NVLink ports), fabric.
 *   What is not named is not supported, but memory (4), reserved (500) and persistence (0). NVML_STUB_HEALTH=@FILE: the
 *   same, read from a file at each question, so that it can change while a program runs.
 * NVML_STUB_PROCESSES="PID:KIND:MIB:GPU[:GI:CI] …": KIND is C, G or M; MIB `-` is not available.
 */
enum { INSUFFICIENT_SIZE = 7, VERSION_MISMATCH = 25 };
enum { MIB = 1 << 20 };

static const char *health(void) {
    static char text[1024];
    const char *said = getenv("NVML_STUB_HEALTH");
    if (!said || *said != '@')
        return said;
    FILE *file = fopen(said + 1, "r");
    text[file ? fread(text, 1, sizeof text - 1, file) : 0] = 0;
    if (file)
        fclose(file);
    return text;
}

/* Whether NAME has a number of its own for this GPU. */
static int told(const char *name, int gpu, long long *answer) {
    size_t length = strlen(name);
    for (const char *at = health(); at && *at; at += strcspn(at, " "), at += *at == ' ') {
        if (strncmp(at, name, length) != 0 || at[length] != '=')
            continue;
        char *rest;
        long long number = strtoll(at + length + 1, &rest, 10);
        if (*rest == '@' && atoi(rest + 1) != gpu)
            continue;
        *answer = number;
        return 1;
    }
    return 0;
}

static int one_told(const char *name, int gpu, unsigned *answer) {
    long long number;
    if (!told(name, gpu, &number))
        return NOT_SUPPORTED;
    *answer = (unsigned)number;
    return SUCCESS;
}

static long long told_or(const char *name, int gpu, long long otherwise) {
    long long number;
    return told(name, gpu, &number) ? number : otherwise;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct handle **device) {
    SCRIPT(ANY);
    for (unsigned index = 0; index < count(); index++)
        if (strcmp(gpus[index].uuid, uuid) == 0)
            return nvmlDeviceGetHandleByIndex_v2(index, device);
    return NOT_FOUND;
}

/* nvmlMemory_t, nvmlMemory_v2_t */
struct memory {
    unsigned long long total, free, used;
};
struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
enum { TOTAL = 40960 };

int nvmlDeviceGetMemoryInfo(struct handle *device, struct memory *memory) {
    SCRIPT(device->gpu);
    long long used = told_or("memory", device->gpu, 4) + told_or("reserved", device->gpu, 500);
    memory->total = (unsigned long long)TOTAL * MIB;
    memory->used = (unsigned long long)used * MIB;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(struct handle *device, struct memory_v2 *memory) {
    SCRIPT(device->gpu);
    if (memory->version != (sizeof *memory | 2u << 24))
        return VERSION_MISMATCH;
    memory->total = (unsigned long long)TOTAL * MIB;
    memory->used = (unsigned long long)told_or("memory", device->gpu, 4) * MIB;
    memory->reserved = (unsigned long long)told_or("reserved", device->gpu, 500) * MIB;
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}

/* nvmlProcessInfo_v2_t, which is also v3's */
struct process {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
};

static int list(const struct handle *device, char kind, unsigned *size, struct process *processes) {
    const unsigned none = 0xffffffffu;
    unsigned found = 0;
    for (const char *at = getenv("NVML_STUB_PROCESSES"); at && *at; at += strcspn(at, " "), at += *at == ' ') {
        unsigned pid, gpu, instance = none, compute = none;
        char its, memory[24];
        if (sscanf(at, "%u:%c:%23[0-9-]:%u:%u:%u", &pid, &its, memory, &gpu, &instance, &compute) < 4)
            continue;
        if (its != kind || (int)gpu != device->gpu)
            continue;
        if (device->slot != ANY &&
            (slot_of(device)->gpu_instance != instance || slot_of(device)->compute_instance != compute))
            continue;
        if (processes && found < *size) {
            int own = device->slot != ANY; /* a MIG device does not name itself */
            unsigned long long used = memory[0] == '-' ? ~0ull : strtoull(memory, NULL, 10) * MIB;
            processes[found] = (struct process){pid, used, own ? none : instance, own ? none : compute};
        }
        found++;
    }
    int fits = found == 0 || (processes && found <= *size);
    *size = found;
    return fits ? SUCCESS : INSUFFICIENT_SIZE;
}

#define LIST(function, kind)                                                                   \
    int function(struct handle *device, unsigned *size, struct process *processes) {           \
        int code = device->slot == ANY ? scripted(__func__, device->gpu) : SUCCESS;            \
        return code != SUCCESS ? code : list(device, kind, size, processes);                   \
    }

LIST(nvmlDeviceGetComputeRunningProcesses_v3, 'C')
LIST(nvmlDeviceGetComputeRunningProcesses_v2, 'C')
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, 'G')
LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, 'G')
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, 'M')
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, 'M')

int nvmlDeviceGetDisplayActive(struct handle *device, unsigned *active) {
    SCRIPT(device->gpu);
    return one_told("display", device->gpu, active);
}

int nvmlDeviceGetPersistenceMode(struct handle *device, unsigned *mode) {
    SCRIPT(device->gpu);
    *mode = (unsigned)told_or("persistence", device->gpu, 0);
    return SUCCESS;
}

int nvmlDeviceSetPersistenceMode(struct handle *device, unsigned mode) {
    char what[40];
    snprintf(what, sizeof what, "persistence %d %s", device->gpu, mode ? "on" : "off");
    scripted(what, device->gpu); /* for the log */
    SCRIPT(device->gpu);
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(struct handle *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                              unsigned *failure) {
    SCRIPT(device->gpu);
    long long number;
    if (!told("remap_pending", device->gpu, &number) && !told("remap_failure", device->gpu, &number))
        return NOT_SUPPORTED;
    *corrected = *uncorrected = 0;
    *pending = (unsigned)told_or("remap_pending", device->gpu, 0);
    *failure = (unsigned)told_or("remap_failure", device->gpu, 0);
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(struct handle *device, int error, int counter, unsigned long long *errors) {
    SCRIPT(device->gpu);
    long long number;
    if (!told("ecc", device->gpu, &number))
        return NOT_SUPPORTED;
    *errors = error == 1 && counter == 0 ? (unsigned long long)number : 999; /* uncorrected, volatile */
    return SUCCESS;
}

/* nvmlFieldValue_t */
struct field {
    unsigned id, scope;
    long long time, latency;
    int type, code;
    union {
        unsigned whole;
        unsigned long long longest;
    } value;
};

int nvmlDeviceGetFieldValues(struct handle *device, int size, struct field *fields) {
    SCRIPT(device->gpu);
    for (int index = 0; index < size; index++) {
        fields[index].type = 1; /* NVML_VALUE_TYPE_UNSIGNED_INT */
        fields[index].value.longest = 0xffffffff00000000ull; /* what a wider read would see */
        fields[index].code = fields[index].id == 230 ? one_told("recovery", device->gpu, &fields[index].value.whole)
                                                     : NOT_SUPPORTED;
    }
    return SUCCESS;
}

int nvmlDeviceGetNvLinkState(struct handle *device, unsigned link, unsigned *active) {
    SCRIPT(device->gpu);
    long long links = told_or("links", device->gpu, 0), ports = told_or("ports", device->gpu, links);
    if (ports == 0)
        return NOT_SUPPORTED;
    if (link >= ports)
        return INVALID_ARGUMENT;
    *active = link < links;
    return SUCCESS;
}

/* nvmlGpuFabricInfo_t */
struct fabric {
    unsigned char cluster[16];
    int status;
    unsigned clique;
    unsigned char state;
};

int nvmlDeviceGetGpuFabricInfo(struct handle *device, struct fabric *info) {
    SCRIPT(device->gpu);
    long long state;
    if (!told("fabric", device->gpu, &state))
        return NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    info->state = (unsigned char)state;
    return SUCCESS;
}
