# What one role, or a process that is busy, does to others.  Of the transfers that a worker has a role takes no more than half
# of those that are free, however many servers it uses; and no server is paused, and no request in doubt, for time that the
# process spent elsewhere.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $node = ScreenshotTaskTest->start_new('main');

# A process that is busy: a trigger of the table's owner takes longer than a permit holds, and than the time-outs, while an
# answer and a handshake are waited for.
my ($answers, $connects, $other) = map { LiveApi->new } 1 .. 3;
$node->add_server('answers',  $answers,  request_timeout => '4s');
$node->add_server('connects', $connects, connect_timeout => '4s');
$node->add_server('busy',     $other);
$node->safe_psql('postgres', "CREATE SEQUENCE naps;
	CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep(8) WHERE nextval('public.naps') = 1; RETURN NEW; END \$\$;
	CREATE TRIGGER sleep BEFORE UPDATE ON screenshot_task_request FOR EACH ROW WHEN (NEW.status = 'sending' AND NEW.stream_name = 'busy') EXECUTE FUNCTION sleep()");
$connects->order(fault => 'slow-handshake=1.5');
$answers->order(fault => 'delay=1.5', stream => 'answered', action => 'CreateScreenshotTask');
$node->safe_psql('postgres', insert_sql(server => 'answers', stream_name => 'answered') . insert_sql(server => 'connects', stream_name => 'connected'));
ok($answers->wait_for_requests(1, stream_name => 'answered'), 'a request is under way');
ok($node->poll_query_until('postgres', "SELECT status = 'sending' FROM screenshot_task_request WHERE stream_name = 'connected'"), 'and another, whose connection is being made');
$node->safe_psql('postgres', insert_sql(server => 'busy', stream_name => 'busy'));
ok($node->wait_for_table("status = 'created' AND attempts = 1"), 'while the process was busy for long: all are created');
is($_->requests(action => 'CreateScreenshotTask'), 1, 'sent once each') for $answers, $connects, $other;
is_deeply([ grep { /are paused for|is in doubt/ } split /\n/, $node->log_text ], [], 'no server is paused, and no request in doubt');
$node->safe_psql('postgres', 'DROP TRIGGER sleep ON screenshot_task_request');

# Two roles whose servers do not answer, and a third one
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
is($_->complaints, '', 'the stand-in has nothing to complain of') for $answers, $connects, $other, $api;

done_testing();
