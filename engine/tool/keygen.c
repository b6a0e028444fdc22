/*
 * axion keygen: an API key for a tenant, and the line of the configuration
 * that lets it in.  The key is printed once and kept nowhere; the line has
 * its hash alone.
 *
 *   stdout  the key (not with --stdin and --argon2id: who typed it has it),
 *           then the line
 *   stderr  what a person wants to know
 *
 * A new key is 32 random bytes, so SHA-256 is enough for it: there is nothing
 * to guess.  A key that a person chose is hashed with Argon2id, whose cost
 * the worker's helper threads pay at each first use.  Such a key is read from
 * standard input and never from the command line, where others could see it.
 */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "engine/tool/tool.h"

#define KEY_PREFIX  "sk-axion-"
#define KEY_RANDOM  32u
#define SECRET_MAX  1024u
#define SECRET_MIN  8u
#define KEY_NAME    64u /* bytes at most */
#define TIME_SHORT  10u /* YYYY-MM-DD */
#define TIME_LONG   20u /* YYYY-MM-DDThh:mm:ssZ */
#define BASE64_MODE sodium_base64_VARIANT_URLSAFE_NO_PADDING

struct keygen_options {
    const char *name, *expires;
    uint64_t memory;
    uint32_t argon2id, from_stdin, passes, help;
};

#define AT(field) offsetof(struct keygen_options, field)

static const struct ax_option options_table[] = {
    {"name", AX_OPTION_TEXT, AT(name), "NAME", NULL,
     "what logs and metrics call the key", 0, 0, NULL, 0},
    {"expires", AX_OPTION_TEXT, AT(expires), "TIME", NULL,
     "YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ", 0, 0, NULL, 0},
    {"stdin", AX_OPTION_FLAG, AT(from_stdin), NULL, NULL,
     "hash the key on standard input, one of high entropy", 0, 0, NULL, 0},
    {"argon2id", AX_OPTION_FLAG, AT(argon2id), NULL, NULL,
     "hash the key on standard input, one that a person chose", 0, 0, NULL, 0},
    {"memory", AX_OPTION_SIZE, AT(memory), "SIZE", "64m", "memory of Argon2id",
     8192, 256u << 20, NULL, 0},
    {"passes", AX_OPTION_NUMBER, AT(passes), "N", "2",
     "passes of Argon2id over its memory", 1, 10, NULL, 0},
    {"help", AX_OPTION_FLAG, AT(help), NULL, NULL, "print this and exit", 0, 0,
     NULL, 0},
    {NULL, AX_OPTION_FLAG, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};


/* One line without its end; at a terminal it is not echoed.  Its bytes, or
 * -1 at the end of input or where it is too long. */
static ssize_t
read_secret(char *secret, size_t room, const char *prompt)
{
    struct termios shown, hidden;
    int terminal = tcgetattr(STDIN_FILENO, &shown) == 0;
    if (terminal) {
        fprintf(stderr, "%s: ", prompt);
        hidden = shown;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    }
    /* Byte by byte: nothing of it stays in a buffer of stdio. */
    ssize_t n = 0;
    int end = 0;
    while (!end) {
        char c;
        ssize_t got = read(STDIN_FILENO, &c, 1);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 || (got == 0 && n == 0)) {
            end = -1;
        } else if (got == 0 || c == '\n') {
            end = 1;
        } else if ((size_t)n == room) {
            end = -1;
        } else {
            secret[n++] = c;
        }
    }
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
        fprintf(stderr, "\n");
    }
    return end < 0 ? -1 : n;
}


/* A word that a header can carry. */
static const char *
secret_fault(const char *secret, ssize_t bytes)
{
    if (bytes < 0) {
        return "there is no key on standard input, or one longer than 1024 "
               "bytes";
    }
    if (bytes < SECRET_MIN) {
        return "the key is shorter than 8 bytes";
    }
    for (ssize_t i = 0; i < bytes; i++) {
        if (secret[i] <= 0x20 || secret[i] >= 0x7f) {
            return "a key has only printable ASCII without blanks";
        }
    }
    return NULL;
}


static void
print_line(const char *scheme, const char *hash, const struct keygen_options *o)
{
    printf("key %s:%s", scheme, hash);
    if (o->name != NULL) {
        printf(" name=%s", o->name);
    }
    if (o->expires != NULL) {
        printf(" expires=%s", o->expires);
    }
    printf(";\n");
}


static void
print_sha256(const char *key, size_t bytes, const struct keygen_options *o)
{
    uint8_t hash[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof(hash) + 1];
    crypto_hash_sha256(hash, (const uint8_t *)key, bytes);
    print_line("sha256", sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash)),
               o);
}


static int
make_new(const struct keygen_options *o)
{
    uint8_t random[KEY_RANDOM];
    char key[sizeof(KEY_PREFIX) +
             sodium_base64_ENCODED_LEN(KEY_RANDOM, BASE64_MODE)] = KEY_PREFIX;
    size_t n = sizeof(KEY_PREFIX) - 1;
    randombytes_buf(random, sizeof(random));
    sodium_bin2base64(key + n, sizeof(key) - n, random, sizeof(random),
                      BASE64_MODE);
    printf("%s\n", key);
    print_sha256(key, strlen(key), o);
    sodium_memzero(random, sizeof(random));
    sodium_memzero(key, sizeof(key));
    return EXIT_SUCCESS;
}


static int
print_argon2id(const char *secret, size_t bytes, const struct keygen_options *o)
{
    char hash[crypto_pwhash_STRBYTES];
    if (crypto_pwhash_str_alg(hash, secret, bytes, o->passes, o->memory,
                              crypto_pwhash_ALG_ARGON2ID13) != 0) {
        return ax_tool_fail("keygen", EXIT_FAILURE,
                            "there is not enough memory for --memory");
    }
    print_line("argon2id", hash, o);
    fprintf(stderr,
            "the client sends it as TENANT:KEY, with the tenant's name\n");
    return EXIT_SUCCESS;
}


static int
hash_given(const struct keygen_options *o)
{
    char secret[SECRET_MAX], again[SECRET_MAX];
    ssize_t bytes = read_secret(secret, sizeof(secret), "key");
    const char *fault = secret_fault(secret, bytes);
    int status;
    if (fault == NULL && o->argon2id && isatty(STDIN_FILENO)) {
        ssize_t n = read_secret(again, sizeof(again), "again");
        if (n != bytes || memcmp(secret, again, (size_t)n) != 0) {
            fault = "the two are not the same";
        }
    }
    if (fault != NULL) {
        status = ax_tool_fail("keygen", EXIT_FAILURE, fault);
    } else if (o->argon2id) {
        status = print_argon2id(secret, (size_t)bytes, o);
    } else {
        print_sha256(secret, (size_t)bytes, o);
        status = EXIT_SUCCESS;
    }
    sodium_memzero(secret, sizeof(secret));
    sodium_memzero(again, sizeof(again));
    return status;
}


static int
name_valid(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            "abcdefghijklmnopqrstuvwxyz0123456789_.-");
    return n > 0 && n <= KEY_NAME && name[n] == 0;
}


/* The form alone: which months have which days nginx -t knows. */
static int
time_valid(const char *time)
{
    static const char form[] = "dddd-dd-ddTdd:dd:ddZ";
    size_t n = strlen(time);
    if (n != TIME_SHORT && n != TIME_LONG) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        int digit = time[i] >= '0' && time[i] <= '9';
        if (form[i] == 'd' ? !digit : time[i] != form[i]) {
            return 0;
        }
    }
    return 1;
}


int
ax_tool_keygen(int argc, char **argv)
{
    struct keygen_options o = {.memory = 64u << 20, .passes = 2};
    int n_args;
    int rc = ax_tool_options(options_table, &o, argc, argv, &n_args, &o.help,
                             "keygen [options]",
                             "an API key and the line of axion_tenant for it");
    if (rc >= 0) {
        return rc;
    }
    if (n_args != 0) {
        return ax_tool_fail("keygen", TOOL_USAGE,
                            "a key is never given on the command line "
                            "(--stdin, --argon2id)");
    }
    if (o.argon2id && o.from_stdin) {
        return ax_tool_fail("keygen", TOOL_USAGE,
                            "--stdin is for keys of high entropy, --argon2id "
                            "reads standard input of its own");
    }
    if (o.name != NULL && !name_valid(o.name)) {
        return ax_tool_fail("keygen", TOOL_USAGE,
                            "--name needs 1 to 64 of A-Z a-z 0-9 _ . -");
    }
    if (o.expires != NULL && !time_valid(o.expires)) {
        return ax_tool_fail("keygen", TOOL_USAGE,
                            "--expires needs YYYY-MM-DD or "
                            "YYYY-MM-DDThh:mm:ssZ");
    }
    if (sodium_init() < 0) {
        return ax_tool_fail("keygen", EXIT_FAILURE,
                            "libsodium cannot be initialized");
    }
    return o.argon2id || o.from_stdin ? hash_given(&o) : make_new(&o);
}
