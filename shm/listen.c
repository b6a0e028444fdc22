/*
 * The engine's listening socket (channel.h).
 *
 * "unix:PATH[,mode=0660][,group=NAME]": a path holds no comma.  The socket's
 * mode and group are set between bind() and listen(): until then connect() is
 * refused, so nobody gets in on the umask's terms.  A socket file that is
 * left over from a killed engine refuses connections, though not at once: the
 * kernel closes what an io_uring holds some ms behind the process's end.  One
 * whose process lives, or that goes on accepting, or is of another kind, or no
 * socket at all, is somebody else's and stays.
 */
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "shm/channel.h"

#define LISTEN_BACKLOG  128
#define GROUP_BYTES     256
#define GROUP_BYTES_MAX (1u << 20)
#define MODE_UNSET      ((mode_t)-1)
#define GROUP_UNSET     ((gid_t)-1)

/* For how long, and how far apart, a dead process's socket is looked at. */
#define GOING_S        2
#define GOING_PAUSE_NS 5000000

struct listen_spec {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    mode_t mode;
    gid_t group;
};

struct reason {
    char *text;
    size_t bytes;
};


__attribute__((format(printf, 3, 4))) static int
fail(const struct reason *why, int error, const char *format, ...)
{
    va_list args;

    if (why->bytes > 0) {
        va_start(args, format);
        vsnprintf(why->text, why->bytes, format, args);
        va_end(args);
    }
    return error;
}


static int
find_group(const char *name, gid_t *gid, const struct reason *why)
{
    struct group group;
    struct group *found = NULL;
    char *memory = NULL;
    int rc = ERANGE;

    for (size_t bytes = 1024; rc == ERANGE && bytes <= GROUP_BYTES_MAX;
         bytes *= 4) {
        char *larger = realloc(memory, bytes);
        if (larger == NULL) {
            break;
        }
        memory = larger;
        rc = getgrnam_r(name, &group, memory, bytes, &found);
    }
    if (rc == 0 && found != NULL) {
        *gid = group.gr_gid;
    }
    free(memory);
    if (found == NULL) {
        return fail(why, AXION_ERR_BAD_OPTION, "no group \"%s\"", name);
    }
    return AXION_OK;
}


static int
parse_part(struct listen_spec *spec, const char *part, const struct reason *why)
{
    if (strncmp(part, "mode=", 5) == 0) {
        char *end;
        unsigned long mode = strtoul(part + 5, &end, 8);

        if (part[5] < '0' || part[5] > '7' || *end != 0 || mode > 0777) {
            return fail(why, AXION_ERR_BAD_OPTION,
                        "\"%s\" is not an octal mode up to 0777", part);
        }
        spec->mode = (mode_t)mode;
        return AXION_OK;
    }
    if (strncmp(part, "group=", 6) == 0) {
        return find_group(part + 6, &spec->group, why);
    }
    return fail(why, AXION_ERR_BAD_OPTION, "unknown parameter \"%s\"", part);
}


static int
parse_spec(struct listen_spec *spec, const char *text, const struct reason *why)
{
    spec->mode = MODE_UNSET;
    spec->group = GROUP_UNSET;
    if (strncmp(text, "unix:", 5) != 0) {
        return fail(why, AXION_ERR_BAD_OPTION,
                    "\"%s\" does not start with \"unix:\"", text);
    }
    text += 5;
    size_t bytes = strcspn(text, ",");
    if (bytes == 0 || bytes >= sizeof(spec->path)) {
        return fail(why, AXION_ERR_BAD_OPTION,
                    "the socket's path must have 1 to %zu bytes",
                    sizeof(spec->path) - 1);
    }
    memcpy(spec->path, text, bytes);
    spec->path[bytes] = 0;

    for (text += bytes; *text == ','; text += bytes) {
        char part[GROUP_BYTES];

        text++;
        bytes = strcspn(text, ",");
        if (bytes >= sizeof(part)) {
            return fail(why, AXION_ERR_BAD_OPTION, "parameter too long");
        }
        memcpy(part, text, bytes);
        part[bytes] = 0;
        int rc = parse_part(spec, part, why);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    return AXION_OK;
}


static int
new_socket(void)
{
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}


enum holder { LIVE, GOING, GONE };


/* Of a socket that a connection was made to. */
static enum holder
holder_of(int fd)
{
    struct ucred peer;
    socklen_t bytes = sizeof(peer);

    /* Of another PID namespace it is 0: nobody knows. */
    bool lives = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0 ||
                 (peer.pid > 0 && (kill(peer.pid, 0) == 0 || errno != ESRCH));
    return lives ? LIVE : GOING;
}


static enum holder
find_holder(const struct sockaddr_un *address)
{
    enum holder holder = LIVE;
    struct stat st;

    if (lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return LIVE;
    }
    int fd = new_socket();
    if (fd < 0) {
        return LIVE;
    }
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
        holder = holder_of(fd);
    } else if (errno == ECONNREFUSED) {
        holder = GONE;
    } else if (errno == EAGAIN) { /* its queue is full: nobody knows whose */
        holder = GOING;
    }
    close(fd);
    return holder;
}


/* Whether the path holds a socket that nobody listens on any more. */
static bool
is_stale(const struct sockaddr_un *address)
{
    const struct timespec pause = {.tv_nsec = GOING_PAUSE_NS};
    enum holder holder = find_holder(address);
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    now = start;
    while (holder == GOING && now.tv_sec - start.tv_sec < GOING_S) {
        nanosleep(&pause, NULL);
        holder = find_holder(address);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return holder == GONE;
}


static int
bind_path(int fd, const struct sockaddr_un *address, const struct reason *why)
{
    const struct sockaddr *a = (const struct sockaddr *)address;

    if (bind(fd, a, sizeof(*address)) == 0) {
        return AXION_OK;
    }
    if (errno == EADDRINUSE) {
        if (!is_stale(address)) {
            return fail(why, AXION_ERR_SYSTEM, "%s is in use",
                        address->sun_path);
        }
        if ((unlink(address->sun_path) == 0 || errno == ENOENT) &&
            bind(fd, a, sizeof(*address)) == 0) {
            return AXION_OK;
        }
    }
    return fail(why, AXION_ERR_SYSTEM, "bind %s: %s", address->sun_path,
                strerror(errno));
}


static int
open_socket(const struct listen_spec *spec, int *fd, const struct reason *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, spec->path, sizeof(address.sun_path));
    *fd = new_socket();
    if (*fd < 0) {
        return fail(why, AXION_ERR_SYSTEM, "socket: %s", strerror(errno));
    }
    int rc = bind_path(*fd, &address, why);
    if (rc != AXION_OK) {
        close(*fd);
        return rc;
    }
    if ((spec->group != GROUP_UNSET &&
         chown(spec->path, (uid_t)-1, spec->group) != 0) ||
        (spec->mode != MODE_UNSET && chmod(spec->path, spec->mode) != 0) ||
        listen(*fd, LISTEN_BACKLOG) != 0) {
        rc = fail(why, AXION_ERR_SYSTEM, "%s: %s", spec->path, strerror(errno));
        unlink(spec->path);
        close(*fd);
    }
    return rc;
}


int
axion_listen(const char *spec, int *fd, char *path, size_t path_bytes,
             char *why, size_t why_bytes)
{
    struct listen_spec parsed;
    struct reason reason = {why, why_bytes};

    *fd = -1;
    fail(&reason, 0, "%s", "");
    int rc = parse_spec(&parsed, spec, &reason);
    if (rc != AXION_OK) {
        return rc;
    }
    if (path_bytes <= strlen(parsed.path)) {
        return fail(&reason, AXION_ERR_BAD_OPTION, "the path is too long");
    }
    rc = open_socket(&parsed, fd, &reason);
    if (rc != AXION_OK) {
        *fd = -1;
        return rc;
    }
    strcpy(path, parsed.path);
    return AXION_OK;
}
