/* The handshake: what a peer may get wrong before HELLO or WELCOME is over,
 * descriptors included.  Whatever it sends, the other side refuses with a
 * reason, and no descriptor and no mapping is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/shm/pair.h"

static int fds_before;
static int maps_before;


static int
count_before(void **state)
{
    (void)state;
    fds_before = open_fds();
    maps_before = ring_maps();
    return 0;
}


static int
nothing_left(void **state)
{
    (void)state;
    return open_fds() == fds_before && ring_maps() == maps_before ? 0 : -1;
}


static struct axion_hello
good_hello(void)
{
    return (struct axion_hello){
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_HELLO},
        .sq_entries = raw_geometry.sq_entries,
        .cq_entries = raw_geometry.cq_entries,
        .arena_bytes = raw_geometry.arena_bytes,
        .streams = raw_geometry.streams,
        .credit = raw_geometry.credit,
        .name = "raw\nclient",
    };
}


/* Sends one message with n descriptors (all the same one). */
static void
send_fds(int socket, const void *data, size_t bytes, int fd, int n)
{
    char control[CMSG_SPACE(200 * sizeof(int))] = {0};
    struct iovec iov = {(void *)data, bytes};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        for (int i = 0; i < n; i++) {
            memcpy(CMSG_DATA(cmsg) + (size_t)i * sizeof(int), &fd, sizeof(int));
        }
    }
    assert_int_equal(sendmsg(socket, &message, MSG_NOSIGNAL), bytes);
}


static int
sealed_memfd(size_t bytes, int seals, unsigned flags)
{
    int fd = memfd_create("axion-test", MFD_CLOEXEC | flags);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    if (seals != 0) {
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    }
    return fd;
}


/* Sends HELLO as given to a fresh channel, expects this error on both sides
 * and, where text is given, in the REFUSED. */
static void
hello_gives_of(const void *hello, size_t bytes, int fd, int n_fds, int error,
               const char *text)
{
    const struct axion_channel_options options = {.streams_max = 1024};
    struct axion_channel *channel;
    struct axion_refused refused;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds),
                     0);
    send_fds(fds[0], hello, bytes, fd, n_fds);
    assert_int_equal(axion_channel_open(&channel, fds[1], &options), AXION_OK);
    assert_int_equal(axion_channel_service(channel), error);
    if (error != AXION_OK) {
        assert_int_equal(axion_channel_service(channel), error);
        assert_int_equal(recv(fds[0], &refused, sizeof(refused), MSG_DONTWAIT),
                         sizeof(refused));
        assert_int_equal(refused.head.type, AXION_MSG_REFUSED);
        assert_int_equal(refused.error, error);
        assert_string_equal(refused.text, text);
        assert_string_equal(axion_channel_why(channel), text);
    }
    axion_channel_close(channel);
    close(fds[0]);
}


#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)


static void
hello_gives(const struct axion_hello *hello, int error, const char *text)
{
    int fd = sealed_memfd(axion_region_bytes(&raw_geometry), SEALS,
                          MFD_ALLOW_SEALING);

    hello_gives_of(hello, sizeof(*hello), fd, 1, error, text);
    close(fd);
}


static void
test_hello_fields(void **state)
{
    struct {
        size_t offset;
        uint32_t value;
        const char *text;
    } const cases[] = {
#define FIELD(name)      offsetof(struct axion_hello, name)
#define BAD(name, value) {FIELD(name), value, "HELLO out of bounds: " #name}
        BAD(sq_entries, 0),
        BAD(sq_entries, 8),
        BAD(sq_entries, 17),
        BAD(sq_entries, 131072),
        BAD(sq_entries, UINT32_MAX),
        BAD(cq_entries, 0),
        BAD(cq_entries, 32),
        BAD(cq_entries, 65),
        BAD(cq_entries, 1u << 21),
        BAD(cq_entries, 1u << 31),
        BAD(arena_bytes, 0),
        BAD(arena_bytes, 65535),
        BAD(arena_bytes, 65537),
        BAD(arena_bytes, UINT32_MAX),
        BAD(streams, 0),
        BAD(streams, 1025),
        BAD(streams, UINT32_MAX),
        BAD(credit, 0),
        BAD(credit, 1),
        BAD(credit, 65),
        BAD(credit, UINT32_MAX),
        {FIELD(streams), 17,
         "HELLO out of bounds: streams * credit passes cq_entries"},
#undef BAD
#undef FIELD
    };
    struct axion_hello hello = good_hello();

    (void)state;
    hello_gives(&hello, AXION_OK, "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        hello = good_hello();
        memcpy((char *)&hello + cases[i].offset, &cases[i].value, 4);
        hello_gives(&hello, AXION_ERR_CHANNEL_LIMITS, cases[i].text);
    }
}


static void
test_hello_heads(void **state)
{
    struct axion_hello hello = good_hello();
    char huge[4096] = {0};

    (void)state;
    hello.head.magic = 1;
    hello_gives(&hello, AXION_ERR_PROTOCOL, "first message is no HELLO");
    hello = good_hello();
    hello.head.type = AXION_MSG_WELCOME;
    hello_gives(&hello, AXION_ERR_PROTOCOL, "first message is no HELLO");
    hello = good_hello();
    hello.head.version = 2;
    hello_gives(&hello, AXION_ERR_VERSION_MISMATCH,
                "the peer speaks another version of the ring protocol");
    hello = good_hello();
    hello_gives_of("", 1, -1, 0, AXION_ERR_PROTOCOL,
                   "first message is no HELLO");
    hello_gives_of(&hello, sizeof(hello) - 1, -1, 0, AXION_ERR_PROTOCOL,
                   "HELLO of the wrong length");
    memcpy(huge, &hello, sizeof(hello));
    hello_gives_of(huge, sizeof(hello) + 1, -1, 0, AXION_ERR_PROTOCOL,
                   "HELLO of the wrong length");
    hello_gives_of(huge, sizeof(huge), -1, 0, AXION_ERR_PROTOCOL,
                   "message is too long");
    hello_gives_of(&hello, sizeof(hello), -1, 0, AXION_ERR_PROTOCOL,
                   "HELLO without a memfd");
}


static void
test_descriptors(void **state)
{
    struct axion_hello hello = good_hello();
    size_t bytes = axion_region_bytes(&raw_geometry);
    const char *no_memfd = "descriptor is not a memfd";
    const char *unsealed = "memfd is not sealed against shrink and grow";
    const size_t size = sizeof(hello);
    int pipes[2];

    (void)state;
    int fd = sealed_memfd(bytes, SEALS, MFD_ALLOW_SEALING);
    hello_gives_of(&hello, size, fd, 2, AXION_ERR_PROTOCOL,
                   "more than one descriptor");
    hello_gives_of(&hello, size, fd, 4, AXION_ERR_PROTOCOL,
                   "more than one descriptor");
    hello_gives_of(&hello, size, fd, 200, AXION_ERR_PROTOCOL,
                   "more than one descriptor");
    close(fd);

    fd = sealed_memfd(bytes - 1, SEALS, MFD_ALLOW_SEALING);
    hello_gives_of(&hello, size, fd, 1, AXION_ERR_CHANNEL_LIMITS,
                   "memfd is too small");
    close(fd);
    fd = sealed_memfd(bytes, 0, MFD_ALLOW_SEALING);
    hello_gives_of(&hello, size, fd, 1, AXION_ERR_CHANNEL_LIMITS, unsealed);
    close(fd);
    fd = sealed_memfd(bytes, F_SEAL_SHRINK, MFD_ALLOW_SEALING);
    hello_gives_of(&hello, size, fd, 1, AXION_ERR_CHANNEL_LIMITS, unsealed);
    close(fd);
    fd = sealed_memfd(bytes, F_SEAL_GROW, MFD_ALLOW_SEALING);
    hello_gives_of(&hello, size, fd, 1, AXION_ERR_CHANNEL_LIMITS, unsealed);
    close(fd);
    fd = sealed_memfd(bytes, 0, 0);
    hello_gives_of(&hello, size, fd, 1, AXION_ERR_CHANNEL_LIMITS, unsealed);
    close(fd);
    fd = sealed_memfd(bytes, SEALS | F_SEAL_WRITE, MFD_ALLOW_SEALING);
    hello_gives_of(&hello, size, fd, 1, AXION_ERR_CHANNEL_LIMITS,
                   "memfd cannot be mapped for writing");
    close(fd);

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    hello_gives_of(&hello, size, pipes[0], 1, AXION_ERR_CHANNEL_LIMITS,
                   no_memfd);
    close(pipes[0]);
    close(pipes[1]);
    fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
    hello_gives_of(&hello, size, fd, 1, AXION_ERR_CHANNEL_LIMITS, no_memfd);
    close(fd);
}


/* A file whose pages may be missing later is a SIGBUS waiting to happen. */
static void
test_huge_page_memfd_is_refused(void **state)
{
    struct axion_hello hello = good_hello();
    int fd = memfd_create("axion-test", MFD_ALLOW_SEALING | MFD_HUGETLB);

    (void)state;
    if (fd < 0 || ftruncate(fd, 64 << 20) != 0 ||
        fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        print_message("no huge page memfd here: part skipped\n");
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    hello_gives_of(&hello, sizeof(hello), fd, 1, AXION_ERR_CHANNEL_LIMITS,
                   "descriptor is not a memfd");
    close(fd);
}


static void
test_rings_must_start_empty(void **state)
{
    struct axion_hello hello = good_hello();
    struct axion_mapping map;
    int fd;

    (void)state;
    assert_int_equal(axion_region_create(&map, &fd, &raw_geometry), AXION_OK);
    axion_index_publish(&map.region->sq_tail, 1);
    hello_gives_of(&hello, sizeof(hello), fd, 1, AXION_ERR_PROTOCOL,
                   "HELLO with rings that are not empty");
    axion_index_publish(&map.region->sq_tail, 0);
    axion_index_publish(&map.region->cq_head, 5);
    hello_gives_of(&hello, sizeof(hello), fd, 1, AXION_ERR_PROTOCOL,
                   "HELLO with rings that are not empty");
    close(fd);
    axion_region_unmap(&map);
}


static void
test_name_is_printable(void **state)
{
    struct axion_channel *channel;
    struct axion_hello hello = good_hello();
    const struct axion_channel_options options = {0};
    int fds[2];
    int fd = sealed_memfd(axion_region_bytes(&raw_geometry), SEALS,
                          MFD_ALLOW_SEALING);

    (void)state;
    memset(hello.name, 'n', sizeof(hello.name));
    hello.name[1] = '\n';
    hello.name[2] = '\x1b';
    hello.name[3] = '\xff';
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
    send_fds(fds[0], &hello, sizeof(hello), fd, 1);
    close(fd);
    assert_int_equal(axion_channel_open(&channel, fds[1], &options), AXION_OK);
    assert_int_equal(axion_channel_service(channel), AXION_OK);
    assert_int_equal(strlen(axion_channel_name(channel)), AXION_NAME_BYTES - 1);
    assert_memory_equal(axion_channel_name(channel), "n???nn", 6);
    assert_int_equal(axion_channel_pid(channel), getpid());
    assert_int_equal(axion_channel_uid(channel), getuid());
    axion_channel_close(channel);
    close(fds[0]);
}


static void
test_messages_after_the_handshake(void **state)
{
    struct axion_hello hello = good_hello();

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct axion_channel *channel;
        struct raw raw;
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        raw_client_open(&raw, &channel);
        assert_int_equal(send(raw.fd, "", 1, 0), 1);
        assert_int_equal(axion_channel_service(channel), AXION_OK);
        if (i == 0) {
            send_fds(raw.fd, &hello, sizeof(hello), fd, 1); /* HELLO twice */
        } else if (i == 1) {
            send_fds(raw.fd, "", 1, fd, 1);
        } else if (i == 2) {
            send_fds(raw.fd, "", 1, fd, 100);
        } else {
            send_fds(raw.fd, "ab", 2, -1, 0);
        }
        assert_int_equal(axion_channel_service(channel), AXION_ERR_PROTOCOL);
        assert_string_equal(axion_channel_why(channel),
                            "message that is no doorbell");
        close(fd);
        axion_channel_close(channel);
        raw_close(&raw);
    }
}


static void
test_end_of_file(void **state)
{
    struct axion_channel *channel;
    const struct axion_channel_options options = {0};
    struct raw raw;
    int fds[2];

    (void)state;
    raw_client_open(&raw, &channel);
    raw_close(&raw);
    assert_int_equal(axion_channel_service(channel), AXION_ERR_ENGINE_LOST);
    axion_channel_close(channel);

    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
    assert_int_equal(axion_channel_open(&channel, fds[1], &options), AXION_OK);
    assert_int_equal(axion_channel_service(channel), AXION_AGAIN);
    close(fds[0]);
    assert_int_equal(axion_channel_service(channel), AXION_ERR_ENGINE_LOST);
    axion_channel_close(channel);
}


static void
test_uid_that_may_not(void **state)
{
    const uid_t other[2] = {getuid() + 1, getuid() + 2};
    const uid_t own[2] = {getuid() + 1, getuid()};
    struct axion_channel_options options = {.allow_uids = other,
                                            .n_allow_uids = 2};
    const struct axion_client_options client_options = {.streams = 8};
    struct axion_channel *channel;
    struct axion_client *client;
    int fds[2];

    (void)state;
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
    assert_int_equal(axion_client_open_fd(&client, fds[0], &client_options),
                     AXION_OK);
    assert_int_equal(axion_channel_open(&channel, fds[1], &options),
                     AXION_ERR_PEER_REFUSED);
    /* The engine closed with our HELLO unread: the reason still arrives. */
    assert_int_equal(axion_client_service(client), AXION_ERR_PEER_REFUSED);
    assert_string_equal(axion_client_why(client),
                        "the engine does not accept this user");
    axion_client_close(client);

    options.allow_uids = own;
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
    assert_int_equal(axion_channel_open(&channel, fds[1], &options), AXION_OK);
    axion_channel_close(channel);
    close(fds[0]);
}


/* ---- a client and what answers it ---- */

static void
answer_gives(const void *data, size_t bytes, int fd, int n_fds, int error)
{
    const struct axion_client_options options = {.streams = 8};
    struct axion_client *client;
    axion_stream_id id;
    struct axion_event event;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds),
                     0);
    assert_int_equal(axion_client_open_fd(&client, fds[0], &options), AXION_OK);
    assert_int_equal(axion_client_submit(client, "", 0, 0, NULL, &id),
                     AXION_ERR_ENGINE_UNAVAILABLE);
    assert_int_equal(axion_client_peek(client, &event), AXION_AGAIN);
    assert_int_equal(axion_client_arm(client), 0);
    send_fds(fds[1], data, bytes, fd, n_fds);
    assert_int_equal(axion_client_service(client), error);
    if (error != AXION_OK) {
        assert_int_equal(axion_client_arm(client), 1);
        assert_int_equal(axion_client_peek(client, &event), error);
        assert_int_equal(axion_client_arm(client), 0);
        assert_int_equal(axion_client_submit(client, "", 0, 0, NULL, &id),
                         error);
    }
    axion_client_close(client);
    close(fds[1]);
}


static void
test_answers(void **state)
{
    const struct axion_welcome welcome = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_WELCOME},
        .payload_bytes_max = 1000};
    struct axion_welcome w = welcome;
    struct axion_refused refused = {
        .head = {AXION_WIRE_MAGIC, 7, AXION_MSG_REFUSED},
        .error = AXION_ERR_ENGINE_DRAINING};
    const size_t board = sizeof(struct axion_board);
    int fd = sealed_memfd(board, SEALS, MFD_ALLOW_SEALING);
    int small = sealed_memfd(board - 4, SEALS, MFD_ALLOW_SEALING);
    int loose = sealed_memfd(board, 0, MFD_ALLOW_SEALING);
    int old = sealed_memfd(AXION_BOARD_BYTES_MIN, SEALS, MFD_ALLOW_SEALING);

    (void)state;
    answer_gives(&w, sizeof(w), -1, 0, AXION_OK);
    answer_gives(&w, sizeof(w) - 1, -1, 0, AXION_ERR_PROTOCOL);
    answer_gives(&w, sizeof(w), fd, 1, AXION_ERR_PROTOCOL);
    answer_gives("", 1, -1, 0, AXION_ERR_PROTOCOL);
    w.head.version = 2;
    answer_gives(&w, sizeof(w), -1, 0, AXION_ERR_VERSION_MISMATCH);
    w = welcome;
    w.head.type = AXION_MSG_HELLO;
    answer_gives(&w, sizeof(w), -1, 0, AXION_ERR_PROTOCOL);

    w = welcome;
    w.board_bytes = (uint32_t)board;
    answer_gives(&w, sizeof(w), fd, 1, AXION_OK);
    w.board_bytes = (uint32_t)AXION_BOARD_BYTES_MIN; /* an older engine's */
    answer_gives(&w, sizeof(w), old, 1, AXION_OK);
    w.board_bytes = (uint32_t)AXION_BOARD_BYTES_MIN - 4;
    answer_gives(&w, sizeof(w), old, 1, AXION_ERR_PROTOCOL);
    w.board_bytes = (uint32_t)board;
    answer_gives(&w, sizeof(w), -1, 0, AXION_ERR_PROTOCOL);
    answer_gives(&w, sizeof(w), fd, 2, AXION_ERR_PROTOCOL);
    answer_gives(&w, sizeof(w), small, 1, AXION_ERR_PROTOCOL);
    answer_gives(&w, sizeof(w), loose, 1, AXION_ERR_PROTOCOL);
    w.board_bytes = 64;
    answer_gives(&w, sizeof(w), fd, 1, AXION_ERR_PROTOCOL);
    w.board_bytes = UINT32_MAX;
    answer_gives(&w, sizeof(w), fd, 1, AXION_ERR_PROTOCOL);

    answer_gives(&refused, sizeof(refused), -1, 0, AXION_ERR_ENGINE_DRAINING);
    refused.error = 0;
    answer_gives(&refused, sizeof(refused), -1, 0, AXION_ERR_INTERNAL);
    refused.error = UINT32_MAX;
    answer_gives(&refused, sizeof(refused), fd, 1, AXION_ERR_INTERNAL);
    answer_gives(&refused, sizeof(refused) - 1, -1, 0, AXION_ERR_PROTOCOL);
    close(fd);
    close(small);
    close(old);
    close(loose);
}


static void
test_client_options(void **state)
{
    struct axion_client_options options = {.path = ""};
    struct axion_client *client;
    char path[200];
    int fds[2];

    (void)state;
    assert_int_equal(axion_client_open(&client, &options),
                     AXION_ERR_BAD_OPTION);
    memset(path, 'p', sizeof(path));
    path[sizeof(path) - 1] = 0;
    options.path = path;
    assert_int_equal(axion_client_open(&client, &options),
                     AXION_ERR_BAD_OPTION);
    options.path = "no/such/socket";
    assert_int_equal(axion_client_open(&client, &options),
                     AXION_ERR_ENGINE_UNAVAILABLE);
    assert_null(client);
    options.path = ".";
    assert_int_equal(axion_client_open(&client, &options),
                     AXION_ERR_ENGINE_UNAVAILABLE);

    options.sq_entries = 33;
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
    assert_int_equal(axion_client_open_fd(&client, fds[0], &options),
                     AXION_ERR_BAD_OPTION);
    close(fds[1]);
    options.sq_entries = 0;
    options.streams = AXION_STREAMS_MAX;
    options.credit = AXION_CREDIT_MAX;
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
    assert_int_equal(axion_client_open_fd(&client, fds[0], &options),
                     AXION_ERR_BAD_OPTION);
    close(fds[1]);
    axion_client_close(NULL);
    axion_channel_close(NULL);
}


int
main(void)
{
#define TEST(name)                                                             \
    cmocka_unit_test_setup_teardown(name, count_before, nothing_left)
    const struct CMUnitTest tests[] = {
        TEST(test_hello_fields),
        TEST(test_hello_heads),
        TEST(test_descriptors),
        TEST(test_huge_page_memfd_is_refused),
        TEST(test_rings_must_start_empty),
        TEST(test_name_is_printable),
        TEST(test_messages_after_the_handshake),
        TEST(test_end_of_file),
        TEST(test_uid_that_may_not),
        TEST(test_answers),
        TEST(test_client_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
