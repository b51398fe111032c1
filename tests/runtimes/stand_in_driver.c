/* A stand-in for libcuda.so.1 whose GPU is host memory: strict about what the real one is strict about.
 *
 * Every call but those that need none fails without a current context; memory may be used only where it is allocated;
 * nothing may be waited for or copied while a stream is captured. Work that a library queues (standin_queue) is done
 * at once, or recorded while the stream is captured, and done again at each launch.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, INVALID_CONTEXT = 201, NOT_PERMITTED_IN_CAPTURE = 900 };
#define MOST 4096
typedef void (*Work)(int);
typedef struct { int number; } Graph;
typedef struct { int capturing; } Stream;

static struct { char *start; size_t size; } blocks[MOST];
static struct { Work work; int argument; } recorded[MOST];
static int recordings, graphs_alive, streams_alive, contexts;
static long launches, uploads, downloads;
static __thread int depth, capturing, captured; /* captures are asked for that concern their own thread only */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int devices = 1;

#define NEED_CONTEXT if (depth == 0) return INVALID_CONTEXT
/* A capture concerns its own thread, and whoever else uses its stream. */
#define NEED_NO_CAPTURE if (capturing) return NOT_PERMITTED_IN_CAPTURE
#define NEED_FREE_STREAM \
    if (!stream) return INVALID_VALUE; \
    if (capturing || ((Stream *)stream)->capturing) return NOT_PERMITTED_IN_CAPTURE

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : OK; }
int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuDeviceGetCount(int *count) { *count = devices; return OK; }
int cuDeviceGet(int *device, int index) { *device = index; return index < devices ? OK : INVALID_VALUE; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, "NVIDIA Stand-in", size);
    return device ? INVALID_VALUE : OK;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 6 : 0;
    return device ? INVALID_VALUE : OK;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == INVALID_CONTEXT ? "invalid device context"
          : code == NOT_PERMITTED_IN_CAPTURE ? "operation not permitted when stream is capturing" : "invalid argument";
    return OK;
}

int cuDevicePrimaryCtxRetain(void **context, int device) { contexts++; *context = &contexts; return device; }
int cuDevicePrimaryCtxRelease_v2(int device) { contexts--; return device; }
int cuCtxPushCurrent_v2(void *context) {
    if (context != &contexts) return INVALID_VALUE;
    depth++;
    return OK;
}
int cuCtxPopCurrent_v2(void **context) { NEED_CONTEXT; *context = &contexts; depth--; return OK; }

static int inside(uint64_t address, size_t size) {
    char *start = (char *)address;
    for (int i = 0; i < MOST; i++)
        if (blocks[i].start && start >= blocks[i].start && start + size <= blocks[i].start + blocks[i].size) return 1;
    return 0;
}
int standin_inside(uint64_t address, size_t size) {
    pthread_mutex_lock(&lock);
    int found = inside(address, size);
    pthread_mutex_unlock(&lock);
    return found;
}
int cuMemAlloc_v2(uint64_t *address, size_t size) {
    NEED_CONTEXT;
    NEED_NO_CAPTURE;
    if (size == 0) return INVALID_VALUE;
    pthread_mutex_lock(&lock);
    int code = INVALID_VALUE;
    for (int i = 0; i < MOST; i++)
        if (!blocks[i].start) {
            blocks[i].start = aligned_alloc(256, (size + 255) / 256 * 256);
            memset(blocks[i].start, 0xA5, size); /* whoever reads what nobody wrote shall notice */
            blocks[i].size = size;
            *address = (uint64_t)blocks[i].start;
            code = OK;
            break;
        }
    pthread_mutex_unlock(&lock);
    return code;
}
int cuMemFree_v2(uint64_t address) {
    NEED_CONTEXT;
    pthread_mutex_lock(&lock);
    int code = INVALID_VALUE;
    for (int i = 0; i < MOST; i++)
        if (blocks[i].start == (char *)address) {
            free(blocks[i].start);
            blocks[i].start = NULL;
            code = OK;
        }
    pthread_mutex_unlock(&lock);
    return code;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    NEED_CONTEXT;
    NEED_FREE_STREAM;
    if (!standin_inside(to, size)) return INVALID_VALUE;
    memcpy((void *)to, from, size);
    uploads++;
    return OK;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    NEED_CONTEXT;
    NEED_FREE_STREAM;
    if (!standin_inside(from, size)) return INVALID_VALUE;
    memcpy(to, (void *)from, size);
    downloads++;
    return OK;
}

int cuStreamCreate(void **stream, unsigned flags) {
    NEED_CONTEXT;
    streams_alive++;
    *stream = calloc(1, sizeof(Stream));
    return flags == 1 ? OK : INVALID_VALUE;
}
int cuStreamDestroy_v2(void *stream) { NEED_CONTEXT; streams_alive--; free(stream); return OK; }
int cuStreamSynchronize(void *stream) { NEED_CONTEXT; NEED_FREE_STREAM; return OK; }
int cuStreamBeginCapture_v2(void *stream, int mode) {
    NEED_CONTEXT;
    NEED_FREE_STREAM;
    ((Stream *)stream)->capturing = capturing = 1;
    captured = -1;
    return mode == 1 ? OK : INVALID_VALUE;
}
int cuStreamEndCapture(void *stream, void **graph) {
    NEED_CONTEXT;
    if (!stream || !capturing) return INVALID_VALUE;
    ((Stream *)stream)->capturing = capturing = 0;
    if (captured < 0) return INVALID_VALUE;
    Graph *found = malloc(sizeof *found);
    found->number = captured;
    *graph = found;
    return OK;
}
int cuGraphInstantiateWithFlags(void **executable, void *graph, uint64_t flags) {
    NEED_CONTEXT;
    Graph *copy = malloc(sizeof *copy);
    *copy = *(Graph *)graph;
    *executable = copy;
    graphs_alive++;
    return flags ? INVALID_VALUE : OK;
}
int cuGraphDestroy(void *graph) { free(graph); return OK; }
int cuGraphExecDestroy(void *executable) { NEED_CONTEXT; graphs_alive--; free(executable); return OK; }
int cuGraphLaunch(void *executable, void *stream) {
    NEED_CONTEXT;
    NEED_FREE_STREAM;
    int number = ((Graph *)executable)->number;
    launches++;
    recorded[number].work(recorded[number].argument);
    return OK;
}

int standin_queue(void *stream, Work work, int argument) {
    NEED_CONTEXT;
    if (!stream) return INVALID_VALUE;
    if (!capturing) {
        work(argument);
        return OK;
    }
    if (captured >= 0) return INVALID_VALUE;
    pthread_mutex_lock(&lock);
    captured = recordings++ % MOST;
    recorded[captured].work = work;
    recorded[captured].argument = argument;
    pthread_mutex_unlock(&lock);
    return OK;
}
void standin_count(long *counts) {
    long blocks_alive = 0, bytes = 0;
    for (int i = 0; i < MOST; i++)
        if (blocks[i].start) blocks_alive++, bytes += blocks[i].size;
    long found[] = {blocks_alive, bytes, streams_alive, graphs_alive, launches, uploads, downloads, contexts};
    memcpy(counts, found, sizeof found);
}
int standin_capturing(void) { return capturing; }
void standin_devices(int count) { devices = count; }
