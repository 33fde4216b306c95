# While a transaction holds an old snapshot, rows that are gone stay in the indexes.  The worker walks over those
# once, and not for each request that comes, be it before or behind them; and it misses none.
#
# There is no sweep here that would find what was missed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant { DEAD => 40_000, EACH => 20 };

my $api  = LiveApi->new('--limit', 1000);
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off', 'screenshot_task.sweep_interval' => '1h',
	'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '2s', max_prepared_transactions => 2);

$node->add_server('tencent_live', $api, requests_per_second => 1000, request_timeout => '3s');
$node->safe_psql('postgres', "CREATE ROLE other; GRANT INSERT ON screenshot_task_request TO other; GRANT USAGE ON FOREIGN SERVER tencent_live TO other");
my $holder = $node->begin('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT pg_sleep(1000)');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)%' AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"),
	'a session holds a snapshot');

# Two transactions that are older than the rows which are sent before they end
$node->safe_psql('postgres', 'BEGIN;' . insert_sql(stream_name => 'prepared') . "PREPARE TRANSACTION 'p'");
my $late = $node->begin("BEGIN; SELECT 1; " . wait_for_created('urgent') . insert_sql(stream_name => 'late') . 'COMMIT;');

# What is gone starts before and after what comes.
my $start = "now() + (i - @{[DEAD / 2]}) * interval '1 s'";
$node->safe_psql('postgres', insert_sql(stream_name => 'dead', rows => DEAD, start_time => \$start, end_time => \"$start + interval '1 h'") . "DELETE FROM screenshot_task_request WHERE stream_name = 'dead'");
$node->set('screenshot_task.enabled' => 'on');
created('first');
walks_little('the same again and again');

$api->order(fault => 'error=RequestLimitExceeded', stream => 'throttled', times => 1);
$api->order(fault => 'error=LimitExceeded',        stream => 'backs off', times => 1);
$api->order(fault => 'error=InvalidParameter',     stream => 'retried',   times => 1);
$api->order(fault => 'error=InternalError',        stream => 'in doubt',  times => 1);

created('urgent', start_time => \"now() - interval '1 h'");
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'late'"), 'one of a long transaction is created');
is($late->end->{error}, undef, 'which has ended well');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'prepared'"), 'one of a prepared transaction is created');
created('of another role', role => 'other');
created('backs off', start_time => \"now() - interval '2 h'");
$node->safe_psql('postgres', insert_sql(stream_name => 'retried'));
ok($node->wait_for_table("status = 'failed'", where => "stream_name = 'retried'"), 'one is refused');
created("another");
$node->safe_psql('postgres', "SELECT retry_screenshot_task_request(id) FROM screenshot_task_request WHERE stream_name = 'retried'");
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'retried'"), 'it is retried, and created');

# Two that go back, while others were found that come after them
$api->pause;
for my $stream ('throttled', 'beside it')
{
	$node->safe_psql('postgres', insert_sql(stream_name => $stream));
	ok($node->wait_for_table("status = 'sending'", where => "stream_name = '$stream'"), "$stream: under way");
}
$api->go_on;
ok($node->wait_for_table("status = 'created'", where => "stream_name = '$_'"), "$_: created") for 'throttled', 'beside it';
$node->safe_psql('postgres', insert_sql(stream_name => 'in doubt'));
ok($node->wait_for_table("status = 'in_doubt'", where => "stream_name = 'in doubt'"), 'one is in doubt');
created('and another');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'in doubt'"), 'it is sent again, and created');

# A channel from whose first request on others are looked for keeps one that somebody has locked.
my $locker = $node->begin(insert_sql(stream_name => 'locked', start_time => \"now() - interval '3 h'") =~ s/^/BEGIN;/r
	  . wait_for_created('behind it') . 'COMMIT;');
created('behind it');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'locked'"), 'one that starts before it, and comes after it, is created');
is($locker->end->{error}, undef, 'its transaction has ended well');

# The owner makes one ready, and a trigger of the owner's moves another.
$node->safe_psql('postgres', insert_sql(stream_name => 'waits', start_time => \"now() + interval '8 d'", end_time => \"now() + interval '8 d 1 h'"));
ok($node->wait_for_table('next_attempt_at IS NOT NULL', where => "stream_name = 'waits'"), 'one waits for its time');
$node->safe_psql('postgres', "UPDATE screenshot_task_request SET start_time = now() - interval '4 h', end_time = now() + interval '1 h', next_attempt_at = NULL WHERE stream_name = 'waits'");
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'waits'"), 'an UPDATE makes it ready: created');
$node->safe_psql('postgres', q{
	CREATE FUNCTION start_early() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		NEW.start_time := now() - interval '5 h';
		RETURN NEW;
	END $$;
	CREATE TRIGGER start_early BEFORE INSERT ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION start_early()});
created('moved', start_time => \"now() + interval '1 min'");
$node->safe_psql('postgres', 'DROP TRIGGER start_early ON screenshot_task_request');

walks_little('after all that');
walks_little('by another role', 'other');
created('later than all', start_time => \"now() + interval '20 h'", end_time => \"now() + interval '21 h'");
created('at once');
ok(wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE status <> 'created'") == 0 }), 'nothing is left');
is_deeply([ sort map { $_->{stream_name} } $api->ledger(event => 'create') ],
	[ sort split /\n/, $node->safe_psql('postgres', 'SELECT stream_name FROM screenshot_task_request') ], 'each has become one task');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# SQL that waits for a request to become a task, for a while.
sub wait_for_created
{
	my ($stream) = @_;

	return "DO \$\$ BEGIN FOR i IN 1 .. 2000 LOOP EXIT WHEN EXISTS (SELECT FROM screenshot_task_request WHERE stream_name = '$stream' AND status = 'created');"
	  . " PERFORM pg_sleep(0.05); END LOOP; END \$\$;";
}

# Insert a request, and see that it becomes a task.
sub created
{
	my ($stream, %task) = @_;
	my $role = delete $task{role} // 'postgres';

	$node->safe_psql('postgres', "SET ROLE $role;" . insert_sql(stream_name => $stream, %task));
	ok($node->wait_for_table("status = 'created'", where => "stream_name = '$stream'"), "$stream: created");
	return;
}

# For requests that come one after the other, far fewer entries of the index are read than there are dead ones for each.
sub walks_little
{
	my ($when, $role) = (@_, 'postgres');
	my ($scans, $before) = reads();
	my $after;

	for my $i (1 .. EACH)
	{
		$node->safe_psql('postgres', "SET ROLE $role;" . insert_sql(stream_name => "$when $i"));
		$node->poll_query_until('postgres', "SELECT status = 'created' FROM screenshot_task_request WHERE stream_name = '$when $i'");
	}
	ok(wait_until(sub { my ($n, $read) = reads(); $after = $read; return $n >= $scans + EACH }), "$when: requests are found one by one");
	cmp_ok($after - $before, '<', EACH * DEAD / 2, "$when: without walking over what is gone each time");
	return;
}

sub reads
{
	return split /\|/, $node->safe_psql('postgres', "SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'screenshot_task_request_ready'");
}
