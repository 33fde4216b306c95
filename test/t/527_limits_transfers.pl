# What one role does to others whose servers do not answer: of the transfers that a worker has it takes no more than half of
# those that are free, however many servers it uses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $node     = ScreenshotTaskTest->start_new('main');
my @accounts = map { [ "AKID$_", "secretKeyOf$_" ] } 1 .. 3;
my $api      = LiveApi->new('--limit', 1000, map { ('--account', join ':', @$_) } @accounts);
my $sending  = "SELECT count(*) FROM screenshot_task_request WHERE status = 'sending' AND requested_by =";

$api->order(fault => 'hang', stream => 'hangs', action => 'CreateScreenshotTask', times => 0);
for my $n (1 .. 3)
{
	$node->safe_psql('postgres', "CREATE ROLE role$n LOGIN; GRANT INSERT ON screenshot_task_request TO role$n");
	for my $server (map { "s$n$_" } 'a' .. 'h')
	{
		$node->add_server($server, $api, account => undef, request_timeout => '5min', requests_per_second => 1000);
		$node->safe_psql('postgres', "GRANT USAGE ON FOREIGN SERVER $server TO role$n; CREATE USER MAPPING FOR role$n SERVER $server OPTIONS (secret_id '$accounts[$n - 1][0]', secret_key '$accounts[$n - 1][1]')");
	}
}

# One role after the other has requests for eight servers, which do not answer.
for my $case ([ 1, 50 ], [ 2, 20 ])
{
	my ($n, $least) = @$case;

	$node->safe_psql('postgres', "SET ROLE role$n; $_") for map { insert_sql(server => "s$n$_", rows => 40, stream_name => 'hangs') } 'a' .. 'h';
	ok($node->poll_query_until('postgres', "SELECT ($sending 'role$n') >= $least"), "role $n: it has many requests under way");
	ok($node->poll_query_until('postgres', "SELECT count(DISTINCT server) = 8 FROM screenshot_task_request WHERE status = 'sending' AND requested_by = 'role$n'"), "role $n: of all its servers");
}
sleep 2;
$node->safe_psql('postgres', "SET ROLE role3; " . join '', map { insert_sql(server => "s3$_", rows => 20, stream_name => 'good') } 'a' .. 'h');
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "requested_by = 'role3'"), 'role 3: all its requests are created meanwhile');
my ($first, $second) = split /\|/, $node->safe_psql('postgres', "SELECT ($sending 'role1'), ($sending 'role2')");
cmp_ok($first, '<=', 125, 'role 1 has no more than half of all');
cmp_ok($second, '<=', (250 - $first) / 2, 'role 2 no more than half of what that leaves');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
