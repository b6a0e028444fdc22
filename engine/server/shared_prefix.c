/* See shared_prefix.h.  The chat's form is what two chats have in common that
 * differ from the first byte of their question on. */
#include "engine/server/shared_prefix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct form {
    int32_t *tokens;
    uint32_t n;
};

struct ax_shared_prefix {
    struct form chat, text;
};


static uint32_t
common(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b)
{
    uint32_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) {
        n++;
    }
    return n;
}


static int
read_text(const char *path, char **out, size_t *bytes, struct ax_error *err)
{
    int rc = AXION_OK;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *out = NULL;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rc = ax_error_set(err, AXION_ERR_BAD_OPTION, "--shared-prefix %s: %s",
                          path, fd < 0 ? strerror(errno) : "not a file");
        goto done;
    }
    if (st.st_size == 0 || st.st_size > AX_SHARED_PREFIX_BYTES_MAX) {
        rc =
            ax_error_set(err, AXION_ERR_BAD_OPTION,
                         "--shared-prefix %s: %lld bytes, 1 to %u can be", path,
                         (long long)st.st_size, AX_SHARED_PREFIX_BYTES_MAX);
        goto done;
    }
    *out = malloc((size_t)st.st_size + 1);
    if (*out == NULL) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
        goto done;
    }
    ssize_t n = read(fd, *out, (size_t)st.st_size);
    *bytes = n > 0 ? (size_t)n : 0;
    (*out)[*bytes] = '\0';
    if (*bytes == 0 || memchr(*out, '\0', *bytes) != NULL ||
        !axion_utf8_valid(*out, *bytes)) {
        rc = ax_error_set(err, AXION_ERR_BAD_OPTION,
                          "--shared-prefix %s: not a text in UTF-8", path);
    }

done:
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}


/* The end of a text joins with what follows it: without its last token, what
 * is left is how most prompts begin that begin so. */
static void
make_text(struct form *form, const struct ax_prompt_maker *maker,
          const char *text, size_t bytes, uint32_t ctx)
{
    struct ax_text_segment segment = {text, bytes, true};
    size_t n = 0;
    int rc = ax_tokenizer_encode_segments(
        maker->tokenizer, &segment, 1,
        AX_ENCODE_ADD_SPECIAL | AX_ENCODE_STOP_AT_CAP, form->tokens, ctx, &n);
    n = n < ctx ? n : ctx;
    form->n = rc == AX_TEXT_OK && n > 0 ? (uint32_t)n - 1 : 0;
}


static void
make_chat(struct form *form, const struct ax_prompt_maker *maker,
          const char *text, int32_t *other, uint32_t ctx)
{
    struct ax_prompt_message messages[] = {{"system", text}, {"user", "a"}};
    struct ax_error err;
    uint32_t n = 0, n_other = 0;
    form->n = 0;
    if (maker->chat_template == NULL ||
        ax_prompt_of_messages(maker, messages, 2, form->tokens, ctx, &n,
                              &err) != AXION_OK) {
        return; /* no chats, or none with a system message */
    }
    messages[1].content = "1";
    if (ax_prompt_of_messages(maker, messages, 2, other, ctx, &n_other, &err) ==
        AXION_OK) {
        n = n < ctx ? n : ctx;
        n_other = n_other < ctx ? n_other : ctx;
        form->n = common(form->tokens, n, other, n_other);
    }
}


int
ax_shared_prefix_open(struct ax_shared_prefix **out, const char *path,
                      const struct ax_prompt_maker *maker, uint32_t ctx,
                      struct ax_error *err)
{
    char *text;
    size_t bytes = 0;
    *out = NULL;
    int rc = read_text(path, &text, &bytes, err);
    if (rc != AXION_OK) {
        free(text);
        return rc;
    }
    struct ax_shared_prefix *p = calloc(1, sizeof(*p));
    int32_t *other = calloc(ctx, sizeof(*other));
    if (p != NULL) {
        p->chat.tokens = calloc(ctx, sizeof(*p->chat.tokens));
        p->text.tokens = calloc(ctx, sizeof(*p->text.tokens));
    }
    if (p == NULL || other == NULL || p->chat.tokens == NULL ||
        p->text.tokens == NULL) {
        rc = ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
        ax_shared_prefix_close(p);
    } else {
        make_text(&p->text, maker, text, bytes, ctx);
        make_chat(&p->chat, maker, text, other, ctx);
        *out = p;
    }
    free(other);
    free(text);
    return rc;
}


void
ax_shared_prefix_close(struct ax_shared_prefix *prefix)
{
    if (prefix == NULL) {
        return;
    }
    free(prefix->chat.tokens);
    free(prefix->text.tokens);
    free(prefix);
}


uint32_t
ax_shared_prefix_match(const struct ax_shared_prefix *prefix,
                       const int32_t *tokens, uint32_t n_tokens)
{
    if (prefix == NULL) {
        return 0;
    }
    uint32_t chat =
        common(prefix->chat.tokens, prefix->chat.n, tokens, n_tokens);
    uint32_t text =
        common(prefix->text.tokens, prefix->text.n, tokens, n_tokens);
    return chat > text ? chat : text;
}


uint32_t
ax_shared_prefix_chat_tokens(const struct ax_shared_prefix *prefix)
{
    return prefix->chat.n;
}


uint32_t
ax_shared_prefix_text_tokens(const struct ax_shared_prefix *prefix)
{
    return prefix->text.n;
}
