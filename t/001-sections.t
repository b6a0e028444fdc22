# Shows that t/*.t use only sections and functions which the runner has: a
# misspelt section would otherwise check nothing and pass.

use strict;
use warnings;
use Test::More;

my %supported = map { $_ => 1 } qw(
    abort access_log config error_code error_log events grep_error_log
    grep_error_log_out http_config ignore_response init log_level main_config
    more_headers must_die no_error_log pipelined_requests post_main_config
    raw_request raw_response_headers_like raw_response_headers_unlike request
    response_body response_body_like response_body_unlike response_headers
    response_headers_like skip_nginx timeout user_files wait
    ONLY SKIP LAST
);

sub slurp {
    my ($path) = @_;
    open my $file, '<', $path or die "$path: $!\n";
    local $/;
    return <$file>;
}

my $runner = slurp('t/lib/Test/Nginx/Socket.pm')
    . slurp('t/lib/Test/Nginx/Checks.pm');
for my $name (sort keys %supported) {
    next if $name =~ /^[A-Z]/; # Test::Base's own
    like($runner, qr/'$name'/, "the runner looks at $name");
}

my $readme = slurp('t/README.md');
like($readme, qr/`$_`/, "t/README.md has $_") for sort keys %supported;

for my $path (sort glob 't/*.t') {
    my (undef, $data) = split /^__DATA__\n/m, slurp($path), 2;
    next if !defined $data;
    my %unknown;
    while ($data =~ /^--- (\w+)/mg) {
        $unknown{$1} = 1 if !$supported{$1};
    }
    is(join(' ', sort keys %unknown), '', "sections of $path are supported");
    unlike($data, qr/^---(?! \w)/m, "section lines of $path are well-formed");
}

done_testing();
