# Shows axion_metrics vllm_compat: vLLM's names, for the models that are
# there, only where they are asked for; and what the directive refuses.
# tests/nginx/test_metrics_format.py holds the whole page to its format.

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
    location = /metrics { axion_metrics vllm_compat; }
    location = /own { axion_metrics; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers;
});

run_tests();

__DATA__

=== TEST 1: a model is there before its first request
Counters are of one nginx: this block has its own, whatever ran before it.
--- http_config
    axion_upstream fresh { engine unix:$TEST_NGINX_AXION_SOCKET; }
--- config
    location /v1/ { axion_pass fresh; }
    location = /metrics { axion_metrics vllm_compat; }
--- request eval
["GET /v1/models", "GET /metrics"]
--- response_body_like eval
["", '(?s)# HELP vllm:num_requests_running [^\n]+
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running\{model_name="echo"\} 0
.*vllm:num_requests_waiting\{model_name="echo"\} 0
.*vllm:kv_cache_usage_perc\{model_name="echo"\} 0\.\d+
.*vllm:cache_config_info\{model_name="echo",engine="unix:[^"]+",block_size="\d+",num_gpu_blocks="\d+"\} 1
.*vllm:prompt_tokens_total\{model_name="echo"\} 0
.*vllm:generation_tokens_total\{model_name="echo"\} 0
.*vllm:time_to_first_token_seconds_bucket\{model_name="echo",le="\+Inf"\} 0
']



=== TEST 2: requests, tokens and times of a model
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!tokens=5 abcdefgh\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!tokens=5 abcdefgh\",\"stream\":true,\"max_tokens\":3}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!error=QUEUE_FULL a\"}",
 "POST /v1/completions\n{\"model\":\"nobody\",\"prompt\":\"a\"}",
 "GET /metrics"]
--- error_code eval
[200, 200, 503, 404, 200]
--- response_body_like eval
["", "", "", "", '(?s)vllm:generation_tokens_total\{model_name="echo"\} 8
.*vllm:request_success_total\{model_name="echo",finished_reason="stop"\} 1
.*vllm:request_success_total\{model_name="echo",finished_reason="length"\} 1
.*vllm:request_success_total\{model_name="echo",finished_reason="abort"\} 0
.*vllm:time_to_first_token_seconds_count\{model_name="echo"\} 2
.*vllm:e2e_request_latency_seconds_count\{model_name="echo"\} 2
.*vllm:request_queue_time_seconds_count\{model_name="echo"\} 2
.*vllm:request_generation_tokens_bucket\{model_name="echo",le="2"\} 0
vllm:request_generation_tokens_bucket\{model_name="echo",le="5"\} 2
.*vllm:request_generation_tokens_sum\{model_name="echo"\} 8
.*vllm:request_params_max_tokens_sum\{model_name="echo"\} 3
vllm:request_params_max_tokens_count\{model_name="echo"\} 1
']



=== TEST 3: a model that nobody has makes no label
--- request eval
["POST /v1/completions\n{\"model\":\"nobody\",\"prompt\":\"a\"}", "GET /metrics"]
--- error_code eval
[404, 200]
--- response_body_unlike eval
["vllm:", "nobody"]



=== TEST 4: not where it is not asked for, and beside our own names
--- request eval
["GET /own", "GET /metrics"]
--- response_body_like eval
["axion_streams_active", "axion_streams_active"]
--- response_body_unlike eval
["vllm:", "nothing of the kind"]



=== TEST 5: an if or limit_except inside is a part of its location
--- config
    location = /metrics {
        axion_metrics vllm_compat;
        if ($arg_x) { set $y 1; }
        limit_except GET { deny all; }
    }
    location /v1/ { axion_pass llm; }
--- request eval
["GET /v1/models", "GET /metrics?x=1", "GET /metrics", "DELETE /metrics"]
--- error_code eval
[200, 200, 200, 403]
--- response_body_like eval
["", "vllm:num_requests_waiting", "vllm:num_requests_waiting", ""]



=== TEST 6: a location inside says for itself
--- config
    location /metrics {
        axion_metrics vllm_compat;
        location = /metrics/own { axion_metrics; }
        location = /metrics/none { }
    }
    location /v1/ { axion_pass llm; }
--- request eval
["GET /v1/models", "GET /metrics/own", "GET /metrics/none", "GET /metrics/x"]
--- error_code eval
[200, 200, 404, 200]
--- response_body_unlike eval
["vllm:", "vllm:", "vllm:", "nothing of the kind"]



=== TEST 7: another parameter is refused by name
--- config
    location = /metrics { axion_metrics sglang_compat; }
--- must_die
--- error_log
unknown parameter "sglang_compat", it may be "vllm_compat"



=== TEST 8: one parameter at most
--- config
    location = /metrics { axion_metrics vllm_compat vllm_compat; }
--- must_die
--- error_log
invalid number of arguments in "axion_metrics" directive



=== TEST 9: once
--- config
    location = /metrics { axion_metrics vllm_compat; axion_metrics; }
--- must_die
--- error_log
"axion_metrics" directive is duplicate



=== TEST 10: not in a server
--- config
    axion_metrics vllm_compat;
--- must_die
--- error_log
"axion_metrics" directive is not allowed here
