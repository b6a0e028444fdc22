# A runner for Test::Nginx::Socket files: our own, for the part of that
# module's language that t/*.t use, so that they run here from Debian packages
# alone and, unmodified, with the genuine module as well.  t/README.md lists
# the sections; a test checks that t/*.t use no others.
#
# A file is a preamble in Perl and, behind __DATA__, blocks of Test::Base.
# Each block starts an nginx of its own when its configuration differs from
# the one that runs, sends its requests one after the other, and checks the
# responses and what was logged since the block began.
#
#   Test::Nginx::Socket    blocks, configuration, requests   (this file)
#   Test::Nginx::Checks    what is compared
#   AxionNginx, AxionHttp  the server and the client
#
# One difference in mood: error_log and grep_error_log patterns are waited
# for (TEST_NGINX_LOG_WAIT, 60 s) instead of being looked for once, so tests
# need no sleeps for what happens after the response.
package Test::Nginx::Socket;

use strict;
use warnings;
use Test::Base -base;

use AxionHttp;
use AxionNginx;
use Cwd qw(getcwd);
use File::Path qw(make_path);
use File::Basename qw(dirname);
use List::Util ();
use Test::Nginx::Checks;
use Time::HiRes qw(sleep);

our @EXPORT = qw(
    add_block_preprocessor add_cleanup_handler bail_out env_to_nginx
    html_dir log_level master_off master_on no_long_string no_root_location
    no_shuffle repeat_each run_tests server_addr server_name server_port
    server_port_for_client server_root timeout worker_connections workers
);

my %setting = (
    repeat_each        => 1,
    workers            => 1,
    master             => 'off',
    worker_connections => 64,
    log_level          => 'debug',
    timeout            => 60,
    root_location      => 1,
    shuffle            => 1,
    server_name        => 'localhost',
    port               => $ENV{TEST_NGINX_PORT}
        || $ENV{TEST_NGINX_SERVER_PORT}
        || 1984,
    root => $ENV{TEST_NGINX_SERVROOT} || getcwd() . '/t/servroot',
);
my (@preprocessors, @cleanup_handlers, @environment);
my ($nginx, $running_conf);

# ---- what a preamble can say ----

# A getter without, a setter with an argument.
sub setting {
    my ($name, @value) = @_;
    $setting{$name} = $value[0] if @value;
    return $setting{$name};
}

sub repeat_each            { return setting('repeat_each',        @_) }
sub workers                { return setting('workers',            @_) }
sub worker_connections     { return setting('worker_connections', @_) }
sub log_level              { return setting('log_level',          @_) }
sub timeout                { return setting('timeout',            @_) }
sub server_name            { return setting('server_name',        @_) }
sub server_port            { return setting('port',               @_) }
sub server_port_for_client { return $setting{port} }
sub server_addr            { return '127.0.0.1' }
sub server_root            { return $setting{root} }
sub html_dir               { return "$setting{root}/html" }
sub master_on              { return setting('master',        'on') }
sub master_off             { return setting('master',        'off') }
sub no_shuffle             { return setting('shuffle',       0) }
sub no_root_location       { return setting('root_location', 0) }
sub no_long_string         { return }
sub env_to_nginx           { push @environment,      @_; return }
sub add_block_preprocessor { push @preprocessors,    @_; return }
sub add_cleanup_handler    { push @cleanup_handlers, @_; return }

sub bail_out {
    Test::More::BAIL_OUT(@_);
    return;
}

# ---- the run ----

sub run_tests {
    my @blocks = blocks();
    if ($setting{shuffle} && !$ENV{TEST_NGINX_NO_SHUFFLE}) {
        my $seed = $ENV{TEST_NGINX_SEED};
        $seed = defined $seed ? srand $seed : srand;
        Test::More::note("blocks in the order of TEST_NGINX_SEED=$seed");
        @blocks = List::Util::shuffle(@blocks);
    }
    for my $block (@blocks) {
        $_->($block) for @preprocessors;
        run_block($block);
    }
    $nginx->stop if $nginx;
    $_->()       for @cleanup_handlers;
    return;
}

# A section's value, undef where the block has none.
sub section {
    my ($block, $name) = @_;
    return scalar $block->$name;
}

sub run_block {
    my ($block) = @_;
    my $name = $block->name;
    if (skipped($block)) {
        return;
    }
    if (defined section($block, 'init')) {
        my $code = section($block, 'init');
        eval "package main; $code; 1" or bail_out("$name - init: $@");
    }
    my $why = ensure_nginx($block);
    if (defined section($block, 'must_die')) {
        stop_nginx();
        Test::More::ok(defined $why, "$name - nginx must refuse to start");
        check_logs($block, $nginx, 0);
        return;
    }
    if (defined $why) {
        bail_out("$name - $why");
    }
    my $from = length $nginx->log_text;
    my $access_from = length $nginx->access_text;
    for my $round (1 .. $setting{repeat_each}) {
        run_requests($block);
    }
    sleep section($block, 'wait') if section($block, 'wait');
    check_logs($block, $nginx, $from, $access_from);
    return;
}

# "N: OP VERSION: reason", for this nginx.
sub skipped {
    my ($block) = @_;
    my $rule = section($block, 'skip_nginx') // return 0;
    $rule =~ /^\s*(\d+)\s*:\s*([<>=!]+)\s*(\d+)\.(\d+)\.(\d+)(?::\s*(.*))?/
        or bail_out($block->name . " - bad skip_nginx: $rule");
    my ($n, $operator, $wanted, $reason) =
        ($1, $2, $3 * 1e6 + $4 * 1e3 + $5, $6 // 'this nginx');
    my $binary = AxionNginx::binary();
    `$binary -v 2>&1` =~ m{/(\d+)\.(\d+)\.(\d+)} or return 0;
    my $have = $1 * 1e6 + $2 * 1e3 + $3;
    my %holds = (
        '<'  => $have < $wanted,
        '<=' => $have <= $wanted,
        '>'  => $have > $wanted,
        '>=' => $have >= $wanted,
        '==' => $have == $wanted,
        '!=' => $have != $wanted,
    );
    return 0 if !$holds{$operator};
    Test::More->builder->skip($reason) for 1 .. $n * $setting{repeat_each};
    return 1;
}

# ---- configuration ----

# $TEST_NGINX_NAME and $ServerPort in a section.
sub expand {
    my ($text) = @_;
    my %own = (
        TEST_NGINX_SERVER_PORT => $setting{port},
        TEST_NGINX_PORT        => $setting{port},
        TEST_NGINX_CLIENT_PORT => $setting{port},
        TEST_NGINX_SERVER_ROOT => $setting{root},
        TEST_NGINX_HTML_DIR    => html_dir(),
        TEST_NGINX_SERVER_NAME => $setting{server_name},
    );
    $text =~ s{\$\{?(TEST_NGINX_[A-Z0-9_]+)\}?}{
        $ENV{$1} // $own{$1}
            // bail_out("\$$1 is not set in the environment")
    }gex;
    $text =~ s/\$ServerPort\b/$setting{port}/g;
    return $text;
}

sub conf_section {
    my ($block, $name) = @_;
    my $text = section($block, $name) // '';
    return expand(ref $text eq 'CODE' ? $text->() : $text);
}

# Debian's nginx has its temporary folders under /var/lib: keep out of there.
sub temp_paths {
    my ($http_config) = @_;
    my $paths = '';
    for my $what (qw(client_body proxy fastcgi uwsgi scgi)) {
        $paths .= "    ${what}_temp_path tmp/$what;\n"
            if $http_config !~ /\b${what}_temp_path\b/;
    }
    return $paths;
}

# Started by root, workers become www-data; that user must get at the prefix,
# which it cannot in somebody's home.
sub user_line {
    return '' if $> != 0;
    my $path = '';
    for my $part (split m{/}, $setting{root}) {
        $path .= "$part/";
        my $mode = (stat $path)[2] // next;
        return "user root root;\n" if !($mode & 1);
    }
    return '';
}

sub main_part {
    my ($block) = @_;
    my $level   = section($block, 'log_level') // $setting{log_level};
    my $modules = join '',
        map {"load_module $_;\n"} split ' ',
        $ENV{TEST_NGINX_LOAD_MODULES} // '';
    my $environment = join '', map {"env $_;\n"} @environment;
    chomp $level;
    return <<"END";
$modules
worker_processes $setting{workers};
daemon off;
master_process $setting{master};
error_log logs/error.log $level;
pid logs/nginx.pid;
@{[ user_line() ]}$environment
END
}

sub make_conf {
    my ($block) = @_;
    my $http    = conf_section($block, 'http_config');
    my $server  = conf_section($block, 'config');
    my $events  = conf_section($block, 'events');
    my $root    = '';
    $root = "        location / {\n            root html;\n"
        . "            index index.html index.htm;\n        }\n"
        if $setting{root_location} && $server !~ m{location\s+/\s*\{};
    return main_part($block) . conf_section($block, 'main_config') . <<"END";

events {
    accept_mutex off;
    worker_connections $setting{worker_connections};
    $events
}

http {
    access_log logs/access.log;
    default_type text/plain;
    keepalive_timeout 68;
@{[ temp_paths($http) ]}
$http
    server {
        listen 127.0.0.1:$setting{port};
        server_name '$setting{server_name}';
        client_max_body_size 30m;
$server
$root    }
}
@{[ conf_section($block, 'post_main_config') ]}
END
}

# ---- nginx ----

sub stop_nginx {
    $nginx->stop if $nginx;
    $running_conf = undef;
    return;
}

# The nginx for this block: the running one when nothing differs.  Returns
# why it does not start, undef when it does.
sub ensure_nginx {
    my ($block) = @_;
    my $conf = make_conf($block);
    return undef
        if defined $running_conf
        && $running_conf eq $conf
        && $nginx->{pid}
        && !defined section($block, 'user_files');
    stop_nginx();
    $nginx ||= AxionNginx->new(
        root => $setting{root},
        port => $setting{port},
    );
    $nginx->{port} = $setting{port};
    $nginx->write_conf($conf);
    write_user_files($block);
    my $why = $nginx->start;
    $running_conf = $conf if !defined $why;
    return $why;
}

# The running server, for preambles that reload or signal it.
sub nginx { return $nginx }

# ">>> name" lines with the contents behind them, or pairs from eval.
sub write_user_files {
    my ($block) = @_;
    my $files = section($block, 'user_files') // return;
    my @files;
    if (ref $files eq 'ARRAY') {
        @files = map { ref $_ eq 'HASH' ? %$_ : @$_ } @$files;
    }
    elsif (ref $files eq 'HASH') {
        @files = %$files;
    }
    else {
        my (undef, @parts) = split /^>>>\s*(\S+)[^\n]*\n/m, $files;
        @files = @parts;
    }
    while (my ($name, $content) = splice @files, 0, 2) {
        my $path = html_dir() . "/$name";
        make_path(dirname($path));
        open my $out, '>:raw', $path or bail_out("$path: $!");
        print $out $content;
        close $out;
    }
    return;
}

# ---- requests ----

# One entry of a section that may hold one for each request.
sub entry {
    my ($value, $i) = @_;
    return ref $value eq 'ARRAY' ? $value->[$i] : $value;
}

# (headers as sent, 1 when the body comes in chunks of the test's own)
sub more_headers {
    my ($block, $i) = @_;
    my $text = entry(section($block, 'more_headers'), $i) // '';
    my ($lines, $chunked) = ('', 0);
    for my $line (split /\r?\n/, expand($text)) {
        next if $line =~ /^\s*(?:#|$)/;
        $chunked = 1 if $line =~ /^Transfer-Encoding:\s*chunked\s*$/i;
        $lines .= "$line\r\n";
    }
    return ($lines, $chunked);
}

# A request line and its body in a section's words -> the bytes to send.
sub build_request {
    my ($block, $text, $i, $connection) = @_;
    my ($lines, $chunked) = more_headers($block, $i);
    $text =~ s/^\s+//;
    my ($line, $body) = split /\r?\n/, $text, 2;
    my ($method, $url, $version) = split ' ', $line // '';
    $method // bail_out($block->name . ' - the request has no method');
    $body //= '';
    if (!$chunked && $lines !~ /^Content-Length:/im && $body ne '') {
        $body =~ s/^\s+|\s+$//g;
        $lines .= 'Content-Length: ' . length($body) . "\r\n";
    }
    $lines = "Connection: $connection\r\n$lines"
        if $lines !~ /^Connection:/im;
    $lines = "Host: $setting{server_name}\r\n$lines" if $lines !~ /^Host:/im;
    $url     //= '/';
    $version //= 'HTTP/1.1';
    return "$method $url $version\r\n$lines\r\n$body";
}

# A request given as packets keeps their borders: what build_request adds
# goes into the first one that reaches behind the request line.
sub build_packets {
    my ($block, $packets, $i) = @_;
    my @packets = map { ref $_ eq 'HASH' ? {%$_} : { value => $_ } } @$packets;
    my $whole = join '', map { $_->{value} } @packets;
    my ($line, $body) = split /\r?\n/, $whole, 2;
    my $built = build_request($block, $whole, $i, 'close');
    my $extra = length($built) - length($body // '');
    my $cut   = length($line) + 1;
    while (@packets && $cut > length $packets[0]{value}) {
        $cut -= length(shift(@packets)->{value});
    }
    @packets or return [{ value => $built }];
    $packets[0]{value} =
        substr($built, 0, $extra) . substr($packets[0]{value}, $cut);
    return \@packets;
}

# What a block sends: a list of {packets, methods}.
sub block_requests {
    my ($block) = @_;
    my $raw = section($block, 'raw_request');
    if (defined $raw) {
        my @packets = map { { value => $_ } } ref $raw ? @$raw : $raw;
        my ($method) = $packets[0]{value} =~ /^\s*(\S+)/;
        return ({ packets => \@packets, methods => [$method // 'GET'] });
    }
    my $pipelined = section($block, 'pipelined_requests');
    if (defined $pipelined) {
        my @all = map {
            build_request($block, $pipelined->[$_], $_,
                $_ == $#$pipelined ? 'close' : 'keep-alive')
        } 0 .. $#$pipelined;
        return (
            {   packets => [{ value => join '', @all }],
                methods => [map { /^(\S+)/ } @all],
            }
        );
    }
    my $request = section($block, 'request') // return ();
    my @requests = ref $request eq 'ARRAY' ? @$request : ($request);
    return map {
        my $packets =
            ref $requests[$_] eq 'ARRAY'
            ? build_packets($block, $requests[$_], $_)
            : [{ value =>
                    build_request($block, $requests[$_], $_, 'close') }];
        my ($method) = $packets->[0]{value} =~ /^(\S+)/;
        { packets => $packets, methods => [$method] };
    } 0 .. $#requests;
}

sub block_timeout {
    my ($block) = @_;
    my $text = section($block, 'timeout') // return $setting{timeout};
    $text =~ /^\s*([\d.]+)\s*(ms|s)?\s*$/
        or bail_out($block->name . " - bad timeout: $text");
    my $seconds = ($2 // 's') eq 'ms' ? $1 / 1000 : $1;
    # Only who wants to leave may be in a hurry: a machine may be slow.
    return $seconds
        if defined section($block, 'abort') || $seconds > $setting{timeout};
    return $setting{timeout};
}

sub run_requests {
    my ($block) = @_;
    my $i = 0;
    for my $request (block_requests($block)) {
        my $n      = @{ $request->{methods} };
        my $result = AxionHttp::exchange(
            port      => $setting{port},
            packets   => $request->{packets},
            methods   => $request->{methods},
            responses => $n,
            timeout   => block_timeout($block),
        );
        check_result($block, $result, $i, $n);
        $i += $n;
    }
    return;
}

END {
    my $code = $?;
    $nginx->stop if $nginx && !$ENV{TEST_NGINX_LEAVE_RUNNING};
    $? = $code;
}

1;
