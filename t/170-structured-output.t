# Shows that what an answer must be reaches the engine as it was written, in
# all its spellings, and that an engine which cannot keep to it says so.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start();

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_');
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
_CONF_
    $block->set_value(config => <<'_CONF_');
    location /v1/ { axion_pass llm; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json");
});

run_tests();

__DATA__

=== TEST 1: OpenAI's response_format with a schema
--- request
POST /v1/chat/completions
{"model":"echo","messages":[{"role":"user","content":"!grammar"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"const": 1.10}}}}
--- response_body_like: "content":"json_schema:\{\\"const\\": 1\.10\}"



=== TEST 2: any object
--- request
POST /v1/chat/completions
{"model":"echo","messages":[{"role":"user","content":"!grammar"}],"response_format":{"type":"json_object"}}
--- response_body_like: "content":"json_object:"



=== TEST 3: vLLM's fields
--- request
POST /v1/completions
{"model":"echo","prompt":"!grammar","structured_outputs":{"regex":"[a-z]+"}}
--- response_body_like: "text":"regex:\[a-z\]\+"



=== TEST 4: and its older ones
--- request
POST /v1/completions
{"model":"echo","prompt":"!grammar","guided_choice":["yes","no"]}
--- response_body_like: "text":"choice:\[\\"yes\\",\\"no\\"\]"



=== TEST 5: llama-server's grammar
--- request
POST /v1/completions
{"model":"echo","prompt":"!grammar","grammar":"root ::= [0-9]+"}
--- response_body_like: "text":"gbnf:root ::= \[0-9\]\+"



=== TEST 6: nothing said is nothing sent
--- request
POST /v1/completions
{"model":"echo","prompt":"!grammar","guided_json":null,"grammar":"","response_format":{"type":"text"}}
--- response_body_like: "text":"none:



=== TEST 7: two at once
--- request
POST /v1/completions
{"model":"echo","prompt":"x","guided_regex":"a","guided_choice":["a"]}
--- error_code: 400
--- response_body_like: "param":"guided_choice","code":"invalid_value"



=== TEST 8: what is not there is refused by name
--- request
POST /v1/completions
{"model":"echo","prompt":"x","structured_outputs":{"structural_tag":"{}"}}
--- error_code: 400
--- response_body_like: "param":"structured_outputs.structural_tag","code":"unsupported_parameter"



=== TEST 9: an engine that cannot keep to it
--- request
POST /v1/completions
{"model":"echo","prompt":"x","guided_regex":"a"}
--- error_code: 400
--- response_body_like: "code":"unsupported_parameter"
