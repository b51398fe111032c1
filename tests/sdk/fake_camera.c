/* A camera driver for tests, on machines without a camera: preloaded into a process, it answers for device files whose
 * name contains "fake-camera", as the kernel's drivers answer for /dev/video0. What reads it is the real FFmpeg.
 *
 * Frames are YUYV and show their number as `numbered` of video_tools.py does. Words in the name of the device say what
 * is wrong with it:
 *
 *   small     it has 64x48 only        dark      it has 10 frames/s only       busy        somebody else uses it
 *   metadata  it gives no pictures     planes    it gives several planes       stalls      after 5 frames it hangs
 *   unplugged after 5 frames it is gone
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUFFERS 32
#define FRAMES_UNTIL_TROUBLE 5

struct camera {
    char name[256];
    int fd, width, height, rate, frames, streaming;
    int queue[BUFFERS], queued;
    struct timespec due;
};

static struct camera cameras[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is(const struct camera *camera, const char *word) { return strstr(camera->name, word) != NULL; }
static int frame_bytes(const struct camera *camera) { return camera->width * camera->height * 2; }

static struct camera *camera_of(int fd) {
    for (int i = 0; i < 64; i++)
        if (cameras[i].name[0] && cameras[i].fd == fd) return &cameras[i];
    return NULL;
}

static int open_camera(const char *path) {
    pthread_mutex_lock(&lock);
    struct camera *camera = cameras;
    while (camera->name[0]) camera++;
    memset(camera, 0, sizeof *camera);
    strncpy(camera->name, path, sizeof camera->name - 1);
    camera->fd = memfd_create("fake-camera", MFD_CLOEXEC); /* so that mmap needs no help */
    camera->width = is(camera, "small") ? 64 : 96;
    camera->height = is(camera, "small") ? 48 : 64;
    camera->rate = is(camera, "dark") ? 10 : 50;
    pthread_mutex_unlock(&lock);
    return camera->fd;
}

static void draw(const struct camera *camera, int index) {
    static __thread unsigned char frame[1 << 16];
    for (int at = 0; at < frame_bytes(camera); at += 2) {
        int column = at / 2 % camera->width;
        frame[at] = camera->frames >> (column * 8 / camera->width) & 1 ? 220 : 35;
        frame[at + 1] = 128;
    }
    pwrite(camera->fd, frame, frame_bytes(camera), (off_t)index * (1 << 16));
}

static int dequeue(struct camera *camera, struct v4l2_buffer *buffer) {
    if (camera->frames == FRAMES_UNTIL_TROUBLE) {
        if (is(camera, "unplugged")) return errno = ENODEV, -1;
        while (is(camera, "stalls")) sleep(1);
    }
    while (!camera->queued) usleep(1000); /* a driver without a buffer loses frames; this one waits */
    camera->due.tv_nsec += 1000000000 / camera->rate;
    if (camera->due.tv_nsec >= 1000000000) camera->due.tv_sec++, camera->due.tv_nsec -= 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &camera->due, NULL);
    int index = camera->queue[0];
    memmove(camera->queue, camera->queue + 1, sizeof(int) * --camera->queued);
    draw(camera, index);
    camera->frames++;
    buffer->index = index;
    buffer->bytesused = frame_bytes(camera);
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->timestamp.tv_sec = camera->due.tv_sec;
    buffer->timestamp.tv_usec = camera->due.tv_nsec / 1000;
    return 0;
}

static int answer(struct camera *camera, unsigned request, void *argument) {
    struct v4l2_capability *capability = argument;
    struct v4l2_pix_format *format = &((struct v4l2_format *)argument)->fmt.pix;
    struct v4l2_buffer *buffer = argument;
    switch (request) {
    case VIDIOC_QUERYCAP:
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->card, "Fake camera");
        capability->device_caps = is(camera, "metadata") ? V4L2_CAP_META_CAPTURE
                                  : is(camera, "planes") ? V4L2_CAP_VIDEO_CAPTURE_MPLANE
                                                         : V4L2_CAP_VIDEO_CAPTURE;
        capability->device_caps |= V4L2_CAP_STREAMING;
        capability->capabilities = capability->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    case VIDIOC_G_INPUT:
        *(int *)argument = 0;
        return 0;
    case VIDIOC_ENUMINPUT:
        return 0;
    case VIDIOC_S_FMT:
        if (is(camera, "busy")) return errno = EBUSY, -1; /* fall through */
    case VIDIOC_G_FMT:
        format->width = camera->width;
        format->height = camera->height;
        format->pixelformat = V4L2_PIX_FMT_YUYV;
        format->field = V4L2_FIELD_NONE;
        format->bytesperline = camera->width * 2;
        format->sizeimage = frame_bytes(camera);
        return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_captureparm *capture = &((struct v4l2_streamparm *)argument)->parm.capture;
        struct v4l2_fract *wanted = &capture->timeperframe;
        if (request == VIDIOC_S_PARM && wanted->numerator && !is(camera, "dark"))
            camera->rate = wanted->denominator / wanted->numerator;
        capture->capability = V4L2_CAP_TIMEPERFRAME;
        *wanted = (struct v4l2_fract){1, camera->rate};
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        if (wanted->count > BUFFERS) wanted->count = BUFFERS;
        return ftruncate(camera->fd, (off_t)wanted->count << 16);
    }
    case VIDIOC_QUERYBUF:
        buffer->length = frame_bytes(camera);
        buffer->m.offset = buffer->index << 16;
        return 0;
    case VIDIOC_QBUF:
        camera->queue[camera->queued++] = buffer->index;
        return 0;
    case VIDIOC_STREAMON:
        clock_gettime(CLOCK_MONOTONIC, &camera->due);
        return 0;
    case VIDIOC_STREAMOFF:
        return 0;
    case VIDIOC_DQBUF:
        return dequeue(camera, buffer);
    default:
        return errno = ENOTTY, -1;
    }
}

int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    struct camera *camera = camera_of(fd);
    if (camera) return answer(camera, (unsigned)request, argument);
    return ((int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl"))(fd, request, argument);
}

int close(int fd) {
    struct camera *camera = camera_of(fd);
    if (camera) camera->name[0] = 0;
    return ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd);
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;                                   \
        va_end(arguments);                                                                                             \
        struct stat status;                                                                                            \
        if (strstr(path, "fake-camera") && !stat(path, &status) && S_ISCHR(status.st_mode)) return open_camera(path);  \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode);                          \
    }

OPEN(open)
OPEN(open64)
