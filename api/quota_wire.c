/*
 * Questions as an EVAL, and replies.  hiredis writes the command and parses
 * the protocol; its reader's objects are our callbacks', so that no reply, of
 * whatever length it says it is, allocates by its own word.
 */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/quota.h"
#include "api/tenant.h"
#include "shm/errors.h"

#define ASK_HEAD    4u /* arguments before those of accounts */
#define ASK_ACCOUNT 8u
#define KEY_BYTES   (AXION_QUOTA_PREFIX_MAX + AXION_TENANT_NAME_MAX + 48u)
#define ARGS_MAX    (4u + AXION_ACCOUNTS + ASK_HEAD + ASK_ACCOUNT * AXION_ACCOUNTS)

/*
 * KEYS: the tenant's nodes, then an account each.  ARGV: node, serial, acked,
 * give, then of each account
 *
 *   b limit 0     ttl_s     known all want need
 *   r limit count period_us owed  all want need
 *
 * A budget's hash: t granted to all, u of it granted to nodes that were not
 * heard of since the store lost its memory; n:NODE granted to it.  A rate's:
 * l level, a when; g:NODE its last grant.  Both: s:NODE its last serial.  A
 * node that was not heard of for five minutes does not count any more, and
 * rates forget it.  The share of a node is half of what it would have if all
 * were dealt out.
 */
static const char script[] =
    "if redis.replicate_commands then redis.replicate_commands() end\n"
    "local node, serial, acked = ARGV[1], tonumber(ARGV[2]), "
    "tonumber(ARGV[3])\n"
    "local give, out = ARGV[4] == '1', {}\n"
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000000 + t[2]\n"
    "redis.call('ZADD', KEYS[1], now, node)\n"
    "local gone = redis.call('ZRANGEBYSCORE', KEYS[1], 0, now - 300000000,\n"
    "                        'LIMIT', 0, 16)\n"
    "for _, id in ipairs(gone) do\n"
    "  redis.call('ZREM', KEYS[1], id)\n"
    "  for i = 2, #KEYS do\n"
    "    if ARGV[5 + (i - 2) * 8] == 'r' then\n"
    "      redis.call('HDEL', KEYS[i], 's:' .. id, 'g:' .. id)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "redis.call('EXPIRE', KEYS[1], 3600)\n"
    "local nodes = redis.call('ZCARD', KEYS[1])\n"
    "local function more(want, need, had, left)\n"
    "  local share = math.floor(left / (2 * nodes))\n"
    "  return math.max(0, math.min(want - had, math.max(need - had, share),\n"
    "                              left))\n"
    "end\n"
    "for i = 2, #KEYS do\n"
    "  local key, at = KEYS[i], 5 + (i - 2) * 8\n"
    "  local limit, x, y = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]),\n"
    "                      tonumber(ARGV[at + 3])\n"
    "  local known, all = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])\n"
    "  local want, need = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])\n"
    "  local s, n, g = 's:' .. node, 'n:' .. node, 'g:' .. node\n"
    "  local last = tonumber(redis.call('HGET', key, s) or 0)\n"
    "  local a, b, c = 1, 0, 0\n"
    "  if last >= serial then\n"
    "    a, b, c = 0, last, tonumber(redis.call('HGET', key, n) or 0)\n"
    "  elseif ARGV[at] == 'b' then\n"
    "    local f = redis.call('HMGET', key, n, 't', 'u')\n"
    "    local mine, total = tonumber(f[1] or 0), tonumber(f[2] or 0)\n"
    "    local u = tonumber(f[3] or 0)\n"
    "    if known > mine then\n"
    "      local heard = math.min(known - mine, u)\n"
    "      u = u - heard\n"
    "      total = total + known - mine - heard\n"
    "      mine = known\n"
    "    elseif give then\n"
    "      total = total - (mine - known)\n"
    "      mine = known\n"
    "    end\n"
    "    if not f[1] and all > total then\n"
    "      u = u + all - total\n"
    "      total = all\n"
    "    end\n"
    "    local had = mine - known\n"
    "    local fresh = more(want, need, had, math.max(limit - total, 0))\n"
    "    mine, total = mine + fresh, total + fresh\n"
    "    redis.call('HSET', key, n, mine)\n"
    "    redis.call('HSET', key, s, serial)\n"
    "    redis.call('HSET', key, 't', total)\n"
    "    redis.call('HSET', key, 'u', u)\n"
    "    redis.call('EXPIRE', key, y)\n"
    "    b, c = had + fresh, total\n"
    "  else\n"
    "    local f = redis.call('HMGET', key, 'l', 'a', g)\n"
    "    local level = tonumber(f[1] or math.min(all / 1000, limit))\n"
    "    local past = math.max(now - tonumber(f[2] or now), 0)\n"
    "    level = math.max(level - past * x / y, 0)\n"
    "    if known > 0 then\n"
    "      level = math.min(level + known, math.max(level, limit))\n"
    "    end\n"
    "    local had = last > acked and tonumber(f[3] or 0) or 0\n"
    "    local left = math.floor(math.max(limit - level, 0))\n"
    "    local fresh = more(want, need, had, left)\n"
    "    level = level + fresh\n"
    "    redis.call('HSET', key, 'l', string.format('%.6f', level))\n"
    "    redis.call('HSET', key, 'a', now)\n"
    "    redis.call('HSET', key, g, had + fresh)\n"
    "    redis.call('HSET', key, s, serial)\n"
    "    local drains = math.ceil(level * y / x / 1000000)\n"
    "    redis.call('EXPIRE', key, math.min(drains, 10000000000) + 3600)\n"
    "    b, c = had + fresh, math.floor(level * 1000)\n"
    "  end\n"
    "  out[#out + 1] = a\n"
    "  out[#out + 1] = b\n"
    "  out[#out + 1] = c\n"
    "end\n"
    "return out\n";


/* ---- commands ---- */

struct args {
    int n;
    const char *data[ARGS_MAX];
    size_t bytes[ARGS_MAX];
    size_t used;
    char room[AXION_ACCOUNTS * (KEY_BYTES + ASK_ACCOUNT * 21u) + KEY_BYTES +
              ASK_HEAD * 21u];
};


static void
add(struct args *args, const char *data, size_t bytes)
{
    args->data[args->n] = data;
    args->bytes[args->n++] = bytes;
}


static void
add_u64(struct args *args, uint64_t value)
{
    char *at = args->room + args->used;
    int n = snprintf(at, sizeof(args->room) - args->used, "%" PRIu64, value);

    args->used += (size_t)n;
    add(args, at, (size_t)n);
}


/* window 0: the name says it all */
static void
add_key(struct args *args, const char *prefix, const struct axion_text *tenant,
        const char *name, uint64_t window)
{
    char *at = args->room + args->used;
    size_t room = sizeof(args->room) - args->used;
    int n = snprintf(at, room, "%s{%.*s}:%s", prefix, (int)tenant->bytes,
                     tenant->data, name);

    if (window != 0)
        n += snprintf(at + n, room - (size_t)n, ":%" PRIu64, window);
    args->used += (size_t)n;
    add(args, at, (size_t)n);
}


static int
format(char **command, size_t *bytes, struct args *args)
{
    int n = redisFormatCommandArgv(command, args->n, args->data, args->bytes);

    if (n < 0)
        return AXION_ERR_NO_MEMORY;
    *bytes = (size_t)n;
    return AXION_OK;
}


int
axion_quota_auth(char **command, size_t *bytes,
                 const struct axion_quota_url *url)
{
    struct args args = {0};

    add(&args, "AUTH", 4);
    if (url->user[0] != '\0')
        add(&args, url->user, strlen(url->user));
    add(&args, url->password, strlen(url->password));
    return format(command, bytes, &args);
}


int
axion_quota_select(char **command, size_t *bytes, unsigned db)
{
    struct args args = {0};

    add(&args, "SELECT", 6);
    add_u64(&args, db);
    return format(command, bytes, &args);
}


int
axion_quota_probe(char **command, size_t *bytes, const char *prefix)
{
    static const char probe[] = "redis.call('HSET', KEYS[1], 'a', 1)\n"
                                "redis.call('EXPIRE', KEYS[1], 60)\n"
                                "return {1}\n";
    struct args args = {0};
    int n;

    add(&args, "EVAL", 4);
    add(&args, probe, sizeof(probe) - 1);
    add(&args, "1", 1);
    n = snprintf(args.room, sizeof(args.room), "%sprobe", prefix);
    add(&args, args.room, (size_t)n);
    return format(command, bytes, &args);
}


static void
add_account(struct args *args, const struct axion_ask_account *a)
{
    int rate = a->account < AXION_RATES;

    add(args, rate ? "r" : "b", 1);
    add_u64(args, a->limit);
    add_u64(args, a->count);
    add_u64(args, rate ? a->period_us : a->ttl_s);
    add_u64(args, rate ? a->owed : a->known);
    add_u64(args, a->all);
    add_u64(args, a->want);
    add_u64(args, a->need);
}


int
axion_quota_ask(char **command, size_t *bytes, const char *prefix,
                const struct axion_text *tenant, uint32_t node,
                const struct axion_ask *ask)
{
    struct args args = {0};
    unsigned i;

    add(&args, "EVAL", 4);
    add(&args, script, sizeof(script) - 1);
    add_u64(&args, ask->n + 1u);
    add_key(&args, prefix, tenant, "nodes", 0);
    for (i = 0; i < ask->n; i++)
        add_key(&args, prefix, tenant,
                axion_limit_name(axion_share_kind(ask->of[i].account)),
                ask->of[i].window);
    add_u64(&args, node);
    add_u64(&args, ask->serial);
    add_u64(&args, ask->acked);
    add_u64(&args, ask->give);
    for (i = 0; i < ask->n; i++)
        add_account(&args, &ask->of[i]);
    return format(command, bytes, &args);
}


/* They hold a password, or a tenant's name. */
void
axion_quota_free(char *command, size_t bytes)
{
    if (command == NULL)
        return;
    explicit_bzero(command, bytes);
    free(command);
}


/* ---- replies ---- */

struct axion_quota_reader {
    redisReader *redis;
    size_t fed; /* bytes since the last whole reply */
    struct axion_quota_reply reply;
};


static struct axion_quota_reply *
reply_of(const redisReadTask *task)
{
    struct axion_quota_reader *reader = task->privdata;

    return &reader->reply;
}


static void
keep_text(struct axion_quota_reply *reply, const char *text, size_t bytes)
{
    size_t i;

    if (bytes >= sizeof(reply->text))
        bytes = sizeof(reply->text) - 1;
    for (i = 0; i < bytes; i++)
        reply->text[i] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
    reply->text[bytes] = '\0';
}


/* Within an array only integers are welcome. */
static void *
on_string(const redisReadTask *task, char *text, size_t bytes)
{
    struct axion_quota_reply *reply = reply_of(task);

    if (task->parent != NULL || task->type == REDIS_REPLY_STRING) {
        reply->kind = AXION_QUOTA_OTHER;
        return reply;
    }
    reply->kind = task->type == REDIS_REPLY_ERROR ? AXION_QUOTA_ERROR
                                                  : AXION_QUOTA_STATUS;
    keep_text(reply, text, bytes);
    return reply;
}


/* hiredis counts elements by an int before 1.0, by a size_t since. */
#if HIREDIS_MAJOR >= 1
typedef size_t elements;
#else
typedef int elements;
#endif


static void *
on_array(const redisReadTask *task, elements n)
{
    struct axion_quota_reply *reply = reply_of(task);

    if (task->parent != NULL || n < 1 || n > (elements)AXION_QUOTA_VALUES)
        return NULL; /* the reader gives up */
    reply->kind = AXION_QUOTA_INTEGERS;
    reply->n_expected = (uint32_t)n;
    return reply;
}


static void *
on_integer(const redisReadTask *task, long long value)
{
    struct axion_quota_reply *reply = reply_of(task);

    if (task->parent == NULL || reply->n >= AXION_QUOTA_VALUES)
        reply->kind = AXION_QUOTA_OTHER;
    else
        reply->values[reply->n++] = value;
    return reply;
}


static void *
on_nil(const redisReadTask *task)
{
    struct axion_quota_reply *reply = reply_of(task);

    reply->kind = AXION_QUOTA_OTHER;
    return reply;
}


static void
on_free(void *object)
{
    (void)object; /* it is the reader's own */
}


static redisReplyObjectFunctions functions = {
    .createString = on_string,
    .createArray = on_array,
    .createInteger = on_integer,
    .createNil = on_nil,
    .freeObject = on_free,
};


int
axion_quota_reader_open(struct axion_quota_reader **out)
{
    struct axion_quota_reader *reader = calloc(1, sizeof(*reader));

    *out = NULL;
    if (reader == NULL)
        return AXION_ERR_NO_MEMORY;
    reader->redis = redisReaderCreateWithFunctions(&functions);
    if (reader->redis == NULL) {
        free(reader);
        return AXION_ERR_NO_MEMORY;
    }
    reader->redis->privdata = reader;
    *out = reader;
    return AXION_OK;
}


void
axion_quota_reader_close(struct axion_quota_reader *reader)
{
    if (reader == NULL)
        return;
    redisReaderFree(reader->redis);
    free(reader);
}


int
axion_quota_feed(struct axion_quota_reader *reader, const void *data,
                 size_t bytes)
{
    if (bytes > AXION_QUOTA_REPLY_BYTES - reader->fed)
        return AXION_ERR_PROTOCOL;
    reader->fed += bytes;
    return redisReaderFeed(reader->redis, data, bytes) == REDIS_OK
               ? AXION_OK
               : AXION_ERR_NO_MEMORY;
}


int
axion_quota_next(struct axion_quota_reader *reader,
                 struct axion_quota_reply *reply)
{
    redisReader *redis = reader->redis;
    void *object = NULL;

    if (redisReaderGetReply(redis, &object) != REDIS_OK) {
        memset(reply, 0, sizeof(*reply));
        reply->kind = AXION_QUOTA_OTHER;
        keep_text(reply, redis->errstr, strlen(redis->errstr));
        return AXION_ERR_PROTOCOL;
    }
    if (object == NULL)
        return AXION_AGAIN;
    *reply = reader->reply;
    memset(&reader->reply, 0, sizeof(reader->reply));
    reader->fed = redis->len - redis->pos;
    return AXION_OK;
}


int
axion_quota_answer(const struct axion_quota_reply *reply,
                   const struct axion_ask *ask, struct axion_answer *answer)
{
    unsigned i;

    if (reply->kind != AXION_QUOTA_INTEGERS || reply->n != 3 * ask->n ||
        reply->n_expected != reply->n)
        return AXION_ERR_PROTOCOL;
    memset(answer, 0, sizeof(*answer));
    answer->n = ask->n;
    for (i = 0; i < ask->n; i++) {
        const int64_t *v = &reply->values[3 * i];

        if (v[0] < 0 || v[0] > 1 || v[1] < 0 || v[2] < 0)
            return AXION_ERR_PROTOCOL;
        answer->of[i] = (struct axion_answer_account){
            .heard = (unsigned)v[0],
            .granted = (uint64_t)v[1],
            .all = (uint64_t)v[2],
        };
    }
    return AXION_OK;
}
