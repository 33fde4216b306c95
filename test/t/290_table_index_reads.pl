# Work is by what there is to do, not by what there is: neither a look at the table nor a pass of removal reads the
# requests that wait, those in doubt whose time has not come, or those that are finished and young.
#
# PostgreSQL counts the entries of each index that scans have read.  What waits and what is in doubt is counted now and then,
# for people to see, the more seldom the more there is of it: so it may have been read a few times, and not at each look.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off', 'screenshot_task.retention' => '90d',
	autovacuum => 'off');
my $n = 30000;
my $in = sub { \"now() + interval '$_[0]'" };

$node->add_server('tencent_live', $api);

$node->safe_psql('postgres', insert_sql(rows => $n, stream_name => \"'waits ' || i", start_time => $in->('7 days'), end_time => $in->('7 days 1 h'))
	  . insert_sql(rows => $n, stream_name => \"'in doubt ' || i")
	  . insert_sql(rows => $n, stream_name => \"'finished ' || i")
	  . q{UPDATE screenshot_task_request SET status = 'in_doubt', next_attempt_at = now() + interval '1 h' WHERE stream_name LIKE 'in doubt %';
	UPDATE screenshot_task_request SET status = 'created', task_id = stream_name, finished_at = now(), next_attempt_at = NULL WHERE stream_name LIKE 'finished %';});
$node->safe_psql('postgres', 'VACUUM ANALYZE screenshot_task_request');

# One after the other, and a pass of removal, which a reload begins.
$node->set('screenshot_task.enabled' => 'on');
$node->safe_psql('postgres', insert_sql(stream_name => 'first'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'first'"), 'a request is sent');
ok(wait_until(sub { scans('finished') > 0 }), 'removal has looked');
$node->safe_psql('postgres', 'SELECT pg_stat_reset_single_table_counters(oid) FROM pg_class WHERE relname ' . indexes());
my $looks = 40;
for my $i (1 .. $looks)
{
	$node->safe_psql('postgres', insert_sql(stream_name => "next $i"));
	$node->wait_for_table("status = 'created'", where => "stream_name = 'next $i'") or die "request $i is not sent";
}
$node->reload;
my %most = (finished => 100, ready => 20 * $looks, waiting => $looks * $n / 2, doubtful => $looks * $n / 2);
for my $index (sort keys %most)
{
	ok(wait_until(sub { scans($index) > 0 }), "$index: the index was used");
	cmp_ok($node->safe_psql('postgres', "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'screenshot_task_request_$index'"),
		'<', $most{$index}, 'and not all of it read each time');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM screenshot_task_request'), 3 * $n + 1 + $looks, 'all requests are there');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub indexes { return q{LIKE 'screenshot\_task\_request\_%' AND relkind = 'i'} }

sub scans
{
	my ($index) = @_;

	return $node->safe_psql('postgres', "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'screenshot_task_request_$index'");
}
