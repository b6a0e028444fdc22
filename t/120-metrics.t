# Shows what axion_metrics counts and axion_status tells, and that neither
# tells secrets.  acme's key is "test".

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start;

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_') if !defined $block->http_config;
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_upstream gone { engine unix:/nonexistent/axion.sock; }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
    location /gone/v1/ { axion_pass gone; axion_timeout connect=50ms; }
    location = /metrics { axion_metrics; }
    location = /status { axion_status; }
    location = /status/llm { axion_status llm; }
    location = /status/gone { axion_status gone; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers;
});

run_tests();

__DATA__

=== TEST 1: requests, tokens and times
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!cached=2 !tokens=5 abcdefgh\"}",
 "POST /v1/chat/completions\n{\"model\":\"echo\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"abcd\"}]}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!error=QUEUE_FULL a\"}",
 "GET /v1/nothing",
 "GET /v1/models",
 "GET /metrics"]
--- error_code eval
[200, 200, 503, 404, 200, 200]
--- response_body_like eval
["", "", "", "", "", '(?s)# TYPE axion_requests_total counter
.*axion_requests_total\{endpoint="chat_completions",status="2xx"\} [1-9]
.*axion_requests_total\{endpoint="completions",status="2xx"\} [1-9]
.*axion_requests_total\{endpoint="completions",status="5xx"\} [1-9]
.*axion_requests_total\{endpoint="models",status="2xx"\} [1-9]
.*axion_requests_total\{endpoint="other",status="4xx"\} [1-9]
.*axion_errors_total\{error="NOT_FOUND"\} [1-9]
.*axion_errors_total\{error="QUEUE_FULL"\} [1-9]
.*axion_prompt_tokens_total \d+
.*axion_cached_tokens_total 2
.*axion_completion_tokens_total 6
.*axion_streams_active 0
.*# TYPE axion_ttft_seconds histogram
.*axion_ttft_seconds_bucket\{le="\+Inf"\} 2
.*axion_ttft_seconds_count 2
.*axion_engine_connects_total\{engine="unix:[^"]+"\} 1
']



=== TEST 2: engine gauges, whether it is there or not
--- request eval
["GET /v1/models", "GET /metrics"]
--- response_body_like eval
["", '(?s)axion_engine_up\{upstream="llm",engine="unix:[^"]+"\} 1
.*axion_engine_up\{upstream="gone",engine="unix:/nonexistent/axion.sock"\} 0
']



=== TEST 3: its type
--- request
GET /metrics
--- response_headers
Content-Type: text/plain; version=0.0.4; charset=utf-8



=== TEST 4: methods
--- request eval
["POST /metrics\n", "HEAD /metrics", "DELETE /status", "HEAD /status"]
--- error_code eval
[405, 200, 405, 200]



=== TEST 5: no secrets
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_tenant acme { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; }
--- config
    location /v1/ { axion_pass llm; }
    location = /metrics { axion_metrics; }
    location = /status { axion_status; }
--- more_headers
x-api-key: test
--- request eval
["GET /v1/models", "GET /metrics", "GET /status"]
--- response_body_unlike eval
["acme", "9f86d081|test", "9f86d081|\"test\""]



=== TEST 6: status: alive in any case, ready where an engine is
--- request eval
["GET /v1/models", "GET /status", "GET /status?ready", "GET /status/llm?ready", "GET /status/gone?ready", "GET /status/gone", "GET /status/llm?ready=1&x=2"]
--- error_code eval
[200, 200, 503, 200, 503, 200, 200]
--- response_body_like eval
["", "^\\{\"status\":\"ok\",\"ready\":false,\"worker_pid\":\\d+,\"upstreams\":\\[\\{\"name\":\"llm\",\"ready\":true,\"engines\":\\[\\{\"address\":\"unix:[^\"]+\",\"state\":\"ready\"",
 "\"ready\":false", "\"ready\":true", "\"state\":\"unavailable\"", "\"ready\":false", "\"ready\":true"]



=== TEST 7: a key is not asked for here: nginx's access rules protect it
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_tenant acme { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; }
--- config
    location = /metrics { axion_metrics; deny all; }
    location = /status { axion_status; }
    location /v1/ { axion_pass llm; }
--- request eval
["GET /metrics", "GET /status"]
--- error_code eval
[403, 200]
