# A raw HTTP/1.1 client for tests: sends exactly the bytes it is given, reads
# one response or as many as were asked for, and keeps what arrived even when
# the connection broke or fell silent.
#
#   my $r = AxionHttp::exchange(port => 1984, packets => [{value => $bytes}]);
#   $r->{responses}[0]{code, headers, body, raw_headers}
#   $r->{timed_out}, $r->{raw}
#
# The timeout is one of inactivity, counted anew with every byte received.
package AxionHttp;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(sleep);

# One connection, or undef with $! set.
sub connect_to {
    my ($port) = @_;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1',
        PeerPort => $port,
        Proto    => 'tcp',
        Timeout  => 5,
    ) or return undef;
    setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1);
    binmode $socket;
    return $socket;
}

# Sends a packet; stops quietly when the server closes early: what it said
# before is what the test wants to see.
sub send_packet {
    my ($socket, $bytes, $timeout) = @_;
    my $select = IO::Select->new($socket);
    my $sent   = 0;
    local $SIG{PIPE} = 'IGNORE';
    while ($sent < length $bytes) {
        $select->can_write($timeout) or return 0;
        my $n = syswrite($socket, $bytes, 65536, $sent);
        return 0 if !defined $n;
        $sent += $n;
    }
    return 1;
}

# Takes one complete response off the front of $$in, or returns undef.  With
# $eof the end of the connection ends the body as well.
sub parse_response {
    my ($in, $method, $eof) = @_;
    my $head_end;
    my $after;
    while (1) {
        $$in =~ /\r?\n\r?\n/ or return undef;
        ($head_end, $after) = ($-[0], $+[0]);
        # 100 Continue and its like are not the answer
        $$in =~ m{\AHTTP/1\.[01] 1\d\d } or last;
        substr($$in, 0, $after) = '';
    }
    my $head = substr($$in, 0, $head_end);
    my %response = (raw_headers => $head . "\r\n", headers => []);
    ($response{code}) = $head =~ m{\AHTTP/\d\.\d (\d{3})};
    for my $line (split /\r?\n/, $head) {
        push @{ $response{headers} }, [$1, $2]
            if $line =~ /^([^:\s]+):\s*(.*?)\s*$/;
    }
    my $rest = substr($$in, $after);
    my ($body, $left) = parse_body(\%response, $rest, $method, $eof);
    return undef if !defined $body;
    $response{body} = $body;
    $$in = $left;
    return \%response;
}

# (body, what follows), or () while more must come.
sub parse_body {
    my ($response, $rest, $method, $eof) = @_;
    my $code = $response->{code} // 0;
    if ($method eq 'HEAD' || $code == 204 || $code == 304) {
        return ('', $rest);
    }
    my $encoding = header($response, 'Transfer-Encoding') // '';
    if (lc $encoding eq 'chunked') {
        return parse_chunks($response, $rest, $eof);
    }
    my $length = header($response, 'Content-Length');
    if (defined $length) {
        if (length $rest < $length) {
            $response->{truncated} = 1;
            return $eof ? ($rest, '') : ();
        }
        return (substr($rest, 0, $length), substr($rest, $length));
    }
    return $eof ? ($rest, '') : ();
}

sub parse_chunks {
    my ($response, $rest, $eof) = @_;
    my $body = '';
    my $at   = 0;
    while (1) {
        pos($rest) = $at;
        if ($rest !~ /\G([0-9a-fA-F]+)[^\r\n]*\r\n/gc) {
            last;
        }
        my $size = hex $1;
        my $from = pos $rest;
        if ($size == 0) {
            $rest =~ /\G(?:[^\r\n]+\r\n)*\r\n/gc or last;
            return ($body, substr($rest, pos $rest));
        }
        if (length($rest) < $from + $size + 2) {
            $body .= substr($rest, $from) if $eof;
            last;
        }
        $body .= substr($rest, $from, $size);
        $at = $from + $size + 2;
    }
    $response->{truncated} = 1;
    return $eof ? ($body, '') : ();
}

# The value of a header, several joined by commas; undef if absent.
sub header {
    my ($response, $name) = @_;
    my @values = map { $_->[1] }
        grep { lc $_->[0] eq lc $name } @{ $response->{headers} };
    return @values ? join(', ', @values) : undef;
}

# port, packets => [{value, delay_before, delay_after}], timeout (seconds of
# silence), responses (how many to read, 1), methods => [of each request].
sub exchange {
    my (%o) = @_;
    my $timeout = $o{timeout}   // 3;
    my $wanted  = $o{responses} // 1;
    my %result  = (responses => [], raw => '', timed_out => 0);
    my $socket  = connect_to($o{port});
    if (!$socket) {
        $result{error} = "connect to port $o{port}: $!";
        return \%result;
    }
    for my $packet (@{ $o{packets} }) {
        sleep $packet->{delay_before} if $packet->{delay_before};
        send_packet($socket, $packet->{value}, $timeout) or last;
        sleep $packet->{delay_after} if $packet->{delay_after};
    }
    receive($socket, \%result, $timeout, $wanted, $o{methods} || []);
    close $socket;
    return \%result;
}

sub receive {
    my ($socket, $result, $timeout, $wanted, $methods) = @_;
    my $select = IO::Select->new($socket);
    my $in     = '';
    my $eof    = 0;
    while (!$eof && @{ $result->{responses} } < $wanted) {
        if (!$select->can_read($timeout)) {
            $result->{timed_out} = 1;
            last;
        }
        my $n = sysread($socket, my $bytes, 65536);
        if (!$n) {
            $eof = 1;
        }
        else {
            $in .= $bytes;
            $result->{raw} .= $bytes;
        }
        take_responses($result, \$in, $wanted, $methods, $eof);
    }
    # What is there when the silence was too long: the caller may want it.
    take_responses($result, \$in, $wanted, $methods, 1);
    $result->{left} = $in;
}

sub take_responses {
    my ($result, $in, $wanted, $methods, $eof) = @_;
    my $got = $result->{responses};
    while (@$got < $wanted && length $$in) {
        my $method   = $methods->[@$got] // 'GET';
        my $response = parse_response($in, $method, $eof) or last;
        push @$got, $response;
    }
}

1;
