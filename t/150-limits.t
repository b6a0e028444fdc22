# Shows what tenants with limits get: refusals with their codes and times,
# x-ratelimit headers on every answer, answers that end at the last token with
# usage and a reason, dry runs; and which lines of limits are refused.  A
# tenant's key is its name.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start;

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_') if !defined $block->http_config;
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_price echo prompt=1000 cached=100 completion=10000;
    log_format limits '<$axion_tenant $status $axion_limit_state cost=$axion_cost>';
    access_log logs/access.log limits;
    axion_tenant rate2 { key sha256:bb854095cd44a568f0e3856cf28457adc9a3137e208f9394f1ff39edb8cce360; requests 2r/h; }
    axion_tenant tok { key sha256:1a7674eb4ee78df7e1ac439a93c3fa8e3c945784d4dec9fd8e3011738b2f1d62; tokens 60/h; }
    axion_tenant bud { key sha256:eb354856ade3a6275867cace684fe74f5d38cd28d6c43032f5744106ef1c07c4; budget 40/mo; }
    axion_tenant cost1 { key sha256:708c4c7be855db141bf11e33f4643bcdb5ccc91fe1de5df6e9f2e0094caf96f6; cost_budget 0.5/d 1/mo; }
    axion_tenant conc { key sha256:3fe3cde54dc9f3f924c3f733eadd753baf54ea84fa362e7712a9397ae9347c02; concurrency 1; }
    axion_tenant q1 { key sha256:c75de8c1b7c3ae5252091267a736a9bf57001d80e82668b3cb3cd09e2f6a43cb; concurrency 1; queue 1 wait=300ms; }
    axion_tenant dry { key sha256:b755cb248c3c4a7d94f835b4421809336e7015850342064be4dfa23349dcdcaa; tokens 10/h; requests 1r/h; }
    axion_tenant big { key sha256:2a21fe6d592a19b7de898b50eb53c429608de1a66f3e9f62da19714a770553d1; tokens 100k/m burst=200k; requests 600r/m; }
    axion_tenant pro { key sha256:07ed400759a0f606a8b5bfa84712aabe7d1b1c45cb6536c8a5727446b6647b84; prompt_tokens 20/h; }
    axion_tenant com { key sha256:71b4f3a3748cd6843c01e293e701fce769f52381821e21daf2ff4fe9ea57a6f3; completion_tokens 20/h; }
    axion_tenant bud2 { key sha256:0f39b748d8b87ab20f1e9de4ad779b4fc42017ae609f280a6eed785f71bda90c; budget 30/mo; }
    axion_tenant plain { key sha256:a116c9ed46d6207734a43317d30fd88f52ac8634c37d904bbf4e41d865f90475;  }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
    location /dry/ { axion_pass llm; axion_limit_dry_run on; }
    location = /status { axion_status; }
    location = /metrics { axion_metrics; }
_CONF_
});

no_shuffle();
run_tests();

__DATA__

=== TEST 1: requests per hour: the third has to wait half of one
--- more_headers
Content-Type: application/json
x-api-key: rate2
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"a\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"b\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"c\"}"]
--- error_code eval
[200, 200, 429]
--- response_headers_like eval
["x-ratelimit-limit-requests: 2\nx-ratelimit-remaining-requests: 1\nx-ratelimit-reset-requests: (30m0s|29m59\\.\\d+s)",
 "x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: (1h0m0s|59m\\d.*)",
 "Retry-After: (1800|179\\d)\nretry-after-ms: (1800000|179\\d+)\nx-should-retry: false\nx-ratelimit-remaining-requests: 0"]
--- response_body_like eval
["", "", '"type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"']



=== TEST 2: headers are there for lists, too, and do not spend
--- more_headers
Content-Type: application/json
x-api-key: rate2
--- request
GET /v1/models
--- response_headers: x-ratelimit-limit-requests: 2



=== TEST 3: a stream ends at the last token
--- more_headers
Content-Type: application/json
x-api-key: tok
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=100 abcdefgh","stream":true,"stream_options":{"include_usage":true}}
--- response_body_like eval
qr/"finish_reason":"length"\}\],"incomplete_details":\{"reason":"rate_limit_exceeded","message":"the limit of tokens per time is reached: 60, 0 left"\}.*"usage":\{"prompt_tokens":5,"completion_tokens":55,"total_tokens":60.*data: \[DONE\]/s
--- access_log eval
qr/<tok 200 cut:tokens cost=0.555000000>/



=== TEST 4: then there are none
--- more_headers
Content-Type: application/json
x-api-key: tok
--- request
POST /v1/completions
{"model":"echo","prompt":"abc"}
--- error_code: 429
--- response_headers_like
Retry-After: \d+
x-ratelimit-limit-tokens: 60
x-ratelimit-remaining-tokens: 0
--- access_log eval
qr/<tok 429 refused:tokens cost=->/



=== TEST 5: an answer that is not streamed ends there, too
--- more_headers
Content-Type: application/json
x-api-key: bud
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=100 abcdefgh"}
--- response_body_like eval
qr/"finish_reason":"length"\}\],"incomplete_details":\{"reason":"insufficient_quota","message":"[^"]+"\},"usage":\{"prompt_tokens":5,"completion_tokens":35,/



=== TEST 6: a budget that is used up
--- more_headers
Content-Type: application/json
x-api-key: bud
--- request
POST /v1/completions
{"model":"echo","prompt":"abc"}
--- error_code: 429
--- response_headers_like
Retry-After: \d+
x-should-retry: false
--- response_body_like: "type":"insufficient_quota","param":null,"code":"insufficient_quota"



=== TEST 7: costs: a prompt of 2 tokens, 1 cached, and 49 of the answer
--- more_headers
Content-Type: application/json
x-api-key: cost1
--- request
POST /v1/completions
{"model":"echo","prompt":"!cached=1 !tokens=100 abcdefgh"}
--- response_body_like eval
qr/"usage":\{"prompt_tokens":(\d+),"completion_tokens":49,/
--- access_log eval
qr/<cost1 200 cut:cost_day cost=0.49\d+>/



=== TEST 8: a prompt that never fits says so, with its tokens
--- more_headers
Content-Type: application/json
x-api-key: tok
--- request
POST /v1/completions
{"model":"echo","prompt":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}
--- error_code: 429
--- response_headers_like eval
"x-should-retry: false"
--- response_body_like: "code":"rate_limit_exceeded"



=== TEST 9: nor one within the limit of prompts
--- more_headers
Content-Type: application/json
x-api-key: pro
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"abc\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"xxxxxxxxxxxxxxxxxxxx\"}"]
--- error_code eval
[429, 200, 200, 429]
--- response_body_like eval
['the prompt.s 25 tokens never fit.*"code":"token_limit_exceeded"', '"prompt_tokens":1,', '"prompt_tokens":15,', 'prompt tokens per time']



=== TEST 10: answers have a limit of their own: the prompt may be larger
--- more_headers
Content-Type: application/json
x-api-key: com
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!tokens=5 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!tokens=50 abc\"}"]
--- response_body_like eval
['"prompt_tokens":103,"completion_tokens":5,', '"incomplete_details".*"completion_tokens":15,']



=== TEST 11: a dry run refuses nobody
--- more_headers
Content-Type: application/json
x-api-key: dry
--- request eval
["POST /dry/completions\n{\"model\":\"echo\",\"prompt\":\"!tokens=20 a\"}",
 "POST /dry/completions\n{\"model\":\"echo\",\"prompt\":\"b\"}",
 "POST /dry/completions\n{\"model\":\"echo\",\"prompt\":\"c\"}"]
--- error_code eval
[200, 200, 200]
--- access_log eval
qr/<dry 200 ok cost=.*<dry 200 dry_run:(tokens|requests) /s



=== TEST 12: and counts
--- request
GET /metrics
--- response_body_like eval
qr/axion_tenant_refused_total\{tenant="dry",limit="(tokens|requests)"\} [12]\n/



=== TEST 13: what is not over any limit
--- more_headers
Content-Type: application/json
x-api-key: big
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=300 abc"}
--- response_headers_like
x-ratelimit-limit-requests: 600
x-ratelimit-remaining-requests: 599
x-ratelimit-limit-tokens: 200000
--- response_body_unlike: incomplete_details
--- access_log eval
qr/<big 200 ok cost=3.00\d+>/



=== TEST 14: a tenant without limits has no such headers
--- more_headers
Content-Type: application/json
x-api-key: plain
--- request
POST /v1/completions
{"model":"echo","prompt":"abc"}
--- raw_response_headers_unlike: x-ratelimit
--- access_log eval
qr/<plain 200 ok cost=0.0\d+>/



=== TEST 15: status has tenants with their balances
--- request
GET /status
--- response_body_like eval
qr/"tenants":\[\{"name":"rate2","active":0,"queued":0,"requests":2,.*\{"name":"tok",.*"month":\{"window":\d+,"tokens":60,"cost":0.555000\}.*"limits":\[\{"limit":"tokens","is":60,"left":\d,"reset_ms":\d+\}\]\}/



=== TEST 16: metrics by tenant, key and model, without secrets
--- request
GET /metrics
--- response_body_like eval
qr/axion_tenant_prompt_tokens_total\{tenant="tok"\} 5\n.*axion_tenant_completion_tokens_total\{tenant="tok"\} 55\n.*axion_tenant_cost_total\{tenant="tok"\} 0.555000\n.*axion_tenant_refused_total\{tenant="bud",limit="budget_month"\} 1\n.*axion_tenant_cut_total\{tenant="tok",limit="tokens"\} 1\n.*axion_tenant_limit\{tenant="bud",limit="budget_month"\} 40\n.*axion_tenant_limit_left\{tenant="bud",limit="budget_month"\} 0\n.*axion_leases 0\n.*axion_usage_requests_total\{tenant="tok",key="",model="echo"\} 1\n/s
--- response_body_unlike: sha256|1a7674eb4ee78df7



=== TEST 17: a price without a number
--- http_config
    axion_price echo prompt=;
--- config
    location / { }
--- must_die
--- error_log
invalid price for a million tokens



=== TEST 18: a price for nothing known
--- http_config
    axion_price echo image=5;
--- config
    location / { }
--- must_die
--- error_log
unknown parameter "image=5"



=== TEST 19: cached tokens that cost more
--- http_config
    axion_price echo prompt=1 cached=2;
--- config
    location / { }
--- must_die
--- error_log
has a cached price above the prompt



=== TEST 20: the state's path twice
--- http_config
    axion_limit_state a; axion_limit_state b;
--- config
    location / { }
--- must_die
--- error_log
"axion_limit_state" directive is duplicate



=== TEST 21: a queue without a wait
--- http_config
    axion_tenant a { key sha256:1a7674eb4ee78df7e1ac439a93c3fa8e3c945784d4dec9fd8e3011738b2f1d62; queue 5; }
--- config
    location / { }
--- must_die
--- error_log
invalid number of parameters of "queue"



=== TEST 22: a wait that is too long
--- http_config
    axion_tenant a { key sha256:1a7674eb4ee78df7e1ac439a93c3fa8e3c945784d4dec9fd8e3011738b2f1d62; queue 5 wait=11m; }
--- config
    location / { }
--- must_die
--- error_log
invalid wait, it must be like wait=5s, 10m at most: "wait=11m"



=== TEST 23: a cost with too many decimals
--- http_config
    axion_tenant a { key sha256:1a7674eb4ee78df7e1ac439a93c3fa8e3c945784d4dec9fd8e3011738b2f1d62; cost_budget 0.0000000001/d; }
--- config
    location / { }
--- must_die
--- error_log
invalid budget



=== TEST 24: prompt tokens of nothing
--- http_config
    axion_tenant a { key sha256:1a7674eb4ee78df7e1ac439a93c3fa8e3c945784d4dec9fd8e3011738b2f1d62; prompt_tokens 0/s; }
--- config
    location / { }
--- must_die
--- error_log
invalid rate



=== TEST 25: a state that is no file of balances
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; } axion_tenant a { key sha256:1a7674eb4ee78df7e1ac439a93c3fa8e3c945784d4dec9fd8e3011738b2f1d62; } axion_limit_state /dev/null;
--- config
    location / { axion_pass llm; }
--- must_die
--- error_log
cannot be used



=== TEST 26: an overloaded engine says when to come back, or its board does
--- more_headers
Content-Type: application/json
x-api-key: big
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!error=QUEUE_FULL a\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!error=QUEUE_FULL !retry_after_ms=2500 a\"}"]
--- error_code eval
[503, 503]
--- response_headers_like eval
["Retry-After: \\d+\nretry-after-ms: \\d{4,5}\nx-ratelimit-limit-requests: 600",
 "Retry-After: 3\nretry-after-ms: 2500"]
--- response_body_like eval
['"code":"overloaded"', '"code":"overloaded"']
