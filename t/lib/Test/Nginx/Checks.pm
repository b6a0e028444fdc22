# What the runner compares, section by section.  A section is checked for each
# request: one value counts for all of them, an array (from `eval`) has one
# for each.
package Test::Nginx::Checks;

use strict;
use warnings;

use AxionHttp;
use Exporter qw(import);
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(check_result check_logs);

sub section {
    my ($block, $name) = @_;
    return scalar $block->$name;
}

sub entry {
    my ($value, $i) = @_;
    return ref $value eq 'ARRAY' ? $value->[$i] : $value;
}

# A pattern as text or qr//.
sub pattern {
    my ($text) = @_;
    return $text if ref $text eq 'Regexp';
    $text =~ s/\n\z//;
    return qr/$text/s;
}

sub label {
    my ($block, $what, $i, $n) = @_;
    return $block->name . " - $what" . ($n > 1 || $i ? " (req $i)" : '');
}

# ---- one exchange with the server ----

sub check_result {
    my ($block, $result, $from, $n) = @_;
    my $name = $block->name;
    if ($result->{error}) {
        Test::More::fail("$name - $result->{error}");
        return;
    }
    if ($result->{timed_out} && !defined section($block, 'abort')) {
        Test::More::fail("$name - the connection fell silent, having said: "
                . substr($result->{raw}, 0, 2000));
    }
    return if defined section($block, 'ignore_response');
    for my $k (0 .. $n - 1) {
        check_response($block, $result->{responses}[$k], $from + $k, $n);
    }
    return;
}

sub check_response {
    my ($block, $response, $i, $n) = @_;
    check_code($block, $response, $i, $n);
    return if !defined $response;
    check_headers($block, $response, $i, $n);
    check_raw_headers($block, $response, $i, $n);
    check_body($block, $response, $i, $n);
    return;
}

sub check_code {
    my ($block, $response, $i, $n) = @_;
    my $wanted = entry(section($block, 'error_code'), $i) // 200;
    my $code   = defined $response ? $response->{code} : undef;
    $wanted =~ s/\s+//g;
    my $label = label($block, 'status code', $i, $n);
    return if $wanted eq '' && !defined $code;
    Test::More::is($code // '(no response)', $wanted, $label)
        or Test::More::diag(defined $response ? $response->{body} : '');
    return;
}

sub header_lines {
    my ($text) = @_;
    return grep {/\S/} split /\r?\n/, $text;
}

sub check_headers {
    my ($block, $response, $i, $n) = @_;
    my $exact = entry(section($block, 'response_headers'), $i);
    for my $line (header_lines($exact // '')) {
        if ($line =~ /^\s*!\s*(\S+)/) {
            Test::More::is(AxionHttp::header($response, $1),
                undef, label($block, "no header $1", $i, $n));
            next;
        }
        my ($key, $value) = split /:\s*/, $line, 2;
        Test::More::is(AxionHttp::header($response, $key) // '(none)',
            $value, label($block, "header $key", $i, $n));
    }
    my $like = entry(section($block, 'response_headers_like'), $i);
    for my $line (header_lines($like // '')) {
        my ($key, $value) = split /:\s*/, $line, 2;
        Test::More::like(AxionHttp::header($response, $key) // '(none)',
            qr/^$value$/, label($block, "header $key like", $i, $n));
    }
    return;
}

sub check_raw_headers {
    my ($block, $response, $i, $n) = @_;
    my $raw  = $response->{raw_headers};
    my $like = entry(section($block, 'raw_response_headers_like'), $i);
    Test::More::like($raw, pattern($like),
        label($block, 'raw headers like', $i, $n))
        if defined $like;
    my $unlike = entry(section($block, 'raw_response_headers_unlike'), $i);
    Test::More::unlike($raw, pattern($unlike),
        label($block, 'raw headers unlike', $i, $n))
        if defined $unlike;
    return;
}

sub check_body {
    my ($block, $response, $i, $n) = @_;
    my $body  = $response->{body};
    my $exact = entry(section($block, 'response_body'), $i);
    Test::More::is($body, $exact, label($block, 'body', $i, $n))
        if defined $exact;
    my $like = entry(section($block, 'response_body_like'), $i);
    check_body_like($body, $like, label($block, 'body like', $i, $n))
        if defined $like;
    my $unlike = entry(section($block, 'response_body_unlike'), $i);
    Test::More::unlike($body, pattern($unlike),
        label($block, 'body unlike', $i, $n))
        if defined $unlike;
    return;
}

# A page of metrics has hundreds of lines, and a pattern of ours dozens: the
# one that is not there is told last, where the end of a log is read.
sub check_body_like {
    my ($body, $like, $label) = @_;
    my $matches = $body =~ pattern($like);
    Test::More::note($body) if !$matches;
    Test::More::ok($matches, $label)
        or Test::More::diag(ref $like ? "lacks $like" : missing($body, $like));
    return;
}

# The first line with which the pattern does not match any more, and what the
# body has of that name.  It explains and decides nothing: a line alone may be
# no pattern at all.
sub missing {
    my ($body, $like) = @_;
    my @lines = split /\n/, $like;
    my $n     = 1;
    while ($n < @lines) {
        my $part    = join "\n", @lines[0 .. $n - 1];
        my $matches = eval { $body =~ /$part/s } // 1;
        last if !$matches;
        $n++;
    }
    my $line = $lines[$n - 1] // '';
    my ($name) = $line =~ /^(?:\(\?\w+\))?(?:\.\*)?([\w:# "]+)/;
    my @near = grep { defined $name && index($_, $name) >= 0 } split /\n/,
        $body;
    @near = split /\n/, $body if !@near;
    splice @near, 12 if @near > 12;
    return join "\n", "line $n of the pattern is not there: $line",
        'the body has:', map { substr $_, 0, 200 } @near;
}

# ---- logs ----

# Each line of a section is a plain text to be found; eval gives an array or
# one pattern.
sub log_patterns {
    my ($value) = @_;
    return ()       if !defined $value;
    return ($value) if ref $value eq 'Regexp';
    my @patterns = ref $value eq 'ARRAY' ? @$value : split /\n/, $value;
    return grep { ref $_ || /\S/ } @patterns;
}

sub in_log {
    my ($text, $pattern) = @_;
    return $text =~ $pattern if ref $pattern eq 'Regexp';
    return index($text, $pattern) >= 0;
}

sub wait_seconds { return $ENV{TEST_NGINX_LOG_WAIT} // 60 }

# Calls until it returns true; its last value.
sub wait_until {
    my ($condition) = @_;
    my $end = time + wait_seconds();
    while (1) {
        my $value = $condition->();
        return $value if $value || time > $end;
        sleep 0.01;
    }
}

sub check_logs {
    my ($block, $nginx, $from, $access_from) = @_;
    my $name = $block->name;
    my $text = sub {
        my $log = substr($nginx->log_text, $from);
        $log .= $nginx->stderr_text if !$nginx->{pid};
        return $log;
    };
    for my $pattern (log_patterns(section($block, 'error_log'))) {
        Test::More::ok(
            wait_until(sub { in_log($text->(), $pattern) }),
            "$name - error_log has: $pattern"
        ) or Test::More::diag(tail($text->()));
    }
    check_grep($block, $text);
    for my $pattern (log_patterns(section($block, 'no_error_log'))) {
        my $log = $text->();
        Test::More::ok(!in_log($log, $pattern),
            "$name - error_log lacks: $pattern")
            or Test::More::diag(lines_with($log, $pattern));
    }
    check_access_log($block, $nginx, $access_from);
    return;
}

# All matches of grep_error_log, one a line, are grep_error_log_out.
sub check_grep {
    my ($block, $text) = @_;
    my $pattern = section($block, 'grep_error_log') // return;
    my $wanted  = entry(section($block, 'grep_error_log_out'), 0) // '';
    $pattern = pattern($pattern);
    my $found;
    wait_until(sub {
        my $log = $text->();
        $found = '';
        while ($log =~ /($pattern)/g) {
            $found .= "$1\n";
        }
        return ref $wanted ? $found =~ $wanted : $found eq $wanted;
    });
    my $label = $block->name . ' - grep_error_log_out';
    ref $wanted
        ? Test::More::like($found, $wanted, $label)
        : Test::More::is($found, $wanted, $label);
    return;
}

sub check_access_log {
    my ($block, $nginx, $from) = @_;
    for my $pattern (log_patterns(section($block, 'access_log'))) {
        Test::More::ok(
            wait_until(sub {
                in_log(substr($nginx->access_text, $from // 0), $pattern);
            }),
            $block->name . " - access_log has: $pattern"
        ) or Test::More::diag(tail($nginx->access_text));
    }
    return;
}

sub tail {
    my ($text) = @_;
    my @lines = split /\n/, $text;
    splice @lines, 0, @lines - 40 if @lines > 40;
    return join "\n", @lines;
}

sub lines_with {
    my ($text, $pattern) = @_;
    return join "\n", grep { in_log($_, $pattern) } split /\n/, $text;
}

1;
