# Clocks that are too far apart for signatures to hold: the server is paused, and the reason gives the difference.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');
my %off  = (ahead => 3600, behind => -1800, slightly => 120);

# By the Date header, whatever else the answer says.
for my $name (sort keys %off)
{
	$node->add_server($name, $api);
	$api->order(fault => "date=$off{$name}", stream => $name, times => 0);
}
$node->add_server('expired', $api);
$api->order(fault => 'error=AuthFailure.SignatureExpire,date=3600', stream => 'expired');
$node->safe_psql('postgres', join '', map { insert_sql(stream_name => $_, server => $_) } sort(keys %off), 'expired');

ok($node->wait_for_table("status = 'created'", where => "stream_name <> 'expired'"), 'what was created is created, whatever the time');
for my $name (qw(ahead behind))
{
	ok(wait_until(sub { $node->log_text =~ /screenshot tasks for server "$name" are paused for 5 s\n/ }), "$name: the server is paused");
	my ($seconds, $side) = $node->log_text =~
	  /server "$name" are paused for 5 s\n.*DETAIL:  the API's clock is (\d+) s (ahead of|behind) this machine's \(signatures are valid for five minutes either way\)\n/;
	is($side, $name eq 'ahead' ? 'ahead of' : 'behind', "$name: which way");
	cmp_ok(abs($seconds - abs $off{$name}), '<', 60, "$name: and how far");
}
unlike($node->log_text, qr/server "slightly" are paused/, 'two minutes are no reason to');

# By the API's word.
ok(wait_until(sub { $node->log_text =~ /server "expired" are paused for 5 s\n/ }), 'SignatureExpire pauses the server');
like($node->log_text, qr/DETAIL:  the API's clock is 3[56]\d\d s ahead of this machine's \(AuthFailure.SignatureExpire: ordered by a test\)/, 'and says how far off it is');
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'expired'"), 'the request goes again after the pause, and the attempt did not count');
is($api->ledger(stream_name => $_), 1, "$_: one task") for sort(keys %off), 'expired';

# A call says it too.
$api->order(fault => 'error=AuthFailure.SignatureExpire,date=-900', stream => 'call');
my $error = $node->try(call_sql(stream_name => 'call', server => 'slightly'))->{error};
is($error->{sqlstate}, '28000', 'a call is refused');
like($error->{hint}, qr/^Set this machine's clock; the API's clock is [89]\d\d s behind it\.$/, 'with what to do');
is($api->ledger(stream_name => 'call'), 0, 'and nothing was made');

done_testing();
