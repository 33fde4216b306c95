# Roles that share a server: one whose requests make the API's answers a fault of the server does not keep another's from
# being sent, although they start sooner.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant ROWS => 20;

my %account = (first => [ 'AKIDfirst', 'secretKeyOfFirst' ], second => [ 'AKIDsecond', 'secretKeyOfSecond' ], good => [ 'AKIDgood', 'secretKeyOfGood' ]);
my $node    = ScreenshotTaskTest->start_new('main');

$node->safe_psql('postgres', "CREATE ROLE $_ LOGIN; GRANT INSERT ON screenshot_task_request TO $_") for keys %account;

# Two roles of whose accounts all is refused, or all left open: their requests start before those of a third one.
for my $code (qw(UnsupportedRegion MissingParameter ServiceUnavailable))
{
	my $api    = LiveApi->new(map { ('--account', join ':', @$_) } values %account);
	my $server = lc $code;

	$node->add_server($server, $api, account => undef, in_doubt => 'hold');
	$node->safe_psql('postgres', "GRANT USAGE ON FOREIGN SERVER $server TO $_; CREATE USER MAPPING FOR $_ SERVER $server OPTIONS (secret_id '$account{$_}[0]', secret_key '$account{$_}[1]')") for keys %account;
	$api->order(fault => "error=$code", secret_id => $account{$_}[0], times => 0) for qw(first second);
	$node->safe_psql('postgres', "SET ROLE $_; " . insert_sql(server => $server, rows => 1000, stream_name => $_, start_time => \"now() - interval '1 min'")) for qw(first second);
	ok(wait_until(sub { $node->log_text =~ /screenshot tasks for server "$server" are paused for 5 s/ }), "$code: the server is paused");
	$node->safe_psql('postgres', 'SET ROLE good; ' . insert_sql(server => $server, rows => ROWS, stream_name => 'good'));
	ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = '$server' AND requested_by = 'good'"), "$code: another role's requests are created");
	is(scalar $api->ledger(stream_name => 'good'), ROWS, "$code: once each");
	is($api->complaints, '', "$code: the stand-in has nothing to complain of");
	$node->safe_psql('postgres', "DROP SERVER $server CASCADE; DELETE FROM screenshot_task_request");
}

done_testing();
