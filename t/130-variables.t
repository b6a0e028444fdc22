# Shows every variable, in the access log and in maps and headers, and that
# one without a value is empty.  acme's key is "test".

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start;

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_');
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_tenant acme { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; }
    log_format axion '<$status tenant=$axion_tenant model=$axion_model '
        'prompt=$axion_prompt_tokens cached=$axion_cached_tokens '
        'completion=$axion_completion_tokens ttft=$axion_ttft '
        'tpot=$axion_tpot reason=$axion_finish_reason '
        'engine=$axion_engine queue=$axion_queue_time>'
        ' more<prefill=$axion_prefill_time itl=$axion_itl_p99 '
        'drafted=$axion_drafted_tokens accepted=$axion_accepted_tokens '
        'preempted=$axion_preemptions cost=$axion_cost '
        'limit=$axion_limit_state>';
    axion_price echo prompt=1 completion=2;
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; access_log logs/access.log axion; }
_CONF_
    $block->set_value(more_headers =>
            "Content-Type: application/json\nx-api-key: test")
        if !defined $block->more_headers;
});

run_tests();

__DATA__

=== TEST 1: all of them
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=5 !cached=1 !delay_ms=5 abcdefgh","stream":true}
--- access_log eval
qr/<200 tenant=acme model=echo prompt=\d+ cached=1 completion=5 ttft=\d+\.\d{6} tpot=\d+\.\d{6} reason=stop engine=unix:\S+\.sock queue=\d+\.\d{6}>/



=== TEST 2: not streamed, cut by max_tokens, one token: no time per token
--- request
POST /v1/completions
{"model":"echo","prompt":"abcdefgh","max_tokens":1}
--- access_log eval
qr/<200 tenant=acme model=echo prompt=2 cached=0 completion=1 ttft=\d+\.\d{6} tpot=- reason=length engine=\S+ queue=\d/



=== TEST 3: refused by the engine
--- request
POST /v1/completions
{"model":"echo","prompt":"!error=QUEUE_FULL a"}
--- error_code: 503
--- access_log eval
qr/<503 tenant=acme model=echo prompt=- cached=- completion=- ttft=- tpot=- reason=error engine=\S+ queue=->/



=== TEST 4: nobody
--- more_headers
Content-Type: application/json
--- request
POST /v1/completions
{"model":"echo","prompt":"a"}
--- error_code: 401
--- access_log
<401 tenant=- model=- prompt=- cached=- completion=- ttft=- tpot=- reason=- engine=- queue=->



=== TEST 5: the client left
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=1000 !stall_after=1 abcd","stream":true}
--- timeout: 2s
--- abort
--- ignore_response
--- access_log eval
qr/<200 tenant=acme model=echo prompt=\d+ cached=0 completion=1 ttft=\d+\.\d+ tpot=- reason=cancelled/



=== TEST 6: outside of axion_pass
--- config
    location = /t { return 200 "[$axion_tenant][$axion_model][$axion_finish_reason]\n"; }
--- request
GET /t
--- response_body
[acme][][]



=== TEST 7: a model's name cannot break a log line or a header
--- request
POST /v1/completions
{"model":"a\r\nb","prompt":"a"}
--- error_code: 400
--- access_log
model=- 



=== TEST 8: what the engine says at the end, and what it cost
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=50 !delay_ms=20 abcd","stream":true}
--- access_log eval
qr/more<prefill=\d+\.\d{6} itl=\d+\.\d+ drafted=0 accepted=0 preempted=0 cost=0\.000107000 limit=ok>/



=== TEST 9: one token has no gap, a refusal no cost
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!tokens=1 abcd\"}",
 "POST /v1/completions\n{\"model\":\"other\",\"prompt\":\"abcd\"}"]
--- error_code eval
[200, 404]
--- access_log eval
qr/more<prefill=\d+\.\d{6} itl=- .*more<prefill=- itl=- drafted=- accepted=- preempted=- cost=(-|0\.000000000) limit=ok>/s
