# Keeping: finished requests go when they are old, and others never; and no flood delays what starts soon.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new('--limit', 1000);
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.retention' => '-1', 'screenshot_task.enabled' => 'off');

$node->add_server('tencent_live', $api, requests_per_second => 500);

# Rows as they may be found: made by statements of the owner, who may set what he likes.
my $ago = sub { \"now() - interval '$_[0]'" };
my $old = q{UPDATE screenshot_task_request SET status = '%s', finished_at = now() - interval '%s', end_time = now() + interval '%s',
	task_id = 'a task', next_attempt_at = NULL WHERE stream_name = '%s';};
my %rows = (
	'created, old'           => [ 'created',   '91 days', '-90 days -1 h', 1 ],
	'created, ends later'    => [ 'created',   '91 days', '1 h',           0 ],
	'created, ended lately'  => [ 'created',   '91 days', '-1 day',        0 ],
	'created, young'         => [ 'created',   '89 days', '-89 days',      0 ],
	'created, found lately'  => [ 'created',   '1 day',   '-91 days',      0 ],
	'failed, old'            => [ 'failed',    '91 days', '1 h',           1 ],
	'failed, young'          => [ 'failed',    '1 day',   '-1 h',          0 ],
	'expired, old'           => [ 'expired',   '91 days', '-91 days',      1 ],
	'cancelled, old'         => [ 'cancelled', '91 days', '1 h',           1 ],
	'in doubt, old'          => [ 'in_doubt',  '91 days', '-91 days',      0 ]);
my @names = sort keys %rows;

sub make_rows
{
	$node->safe_psql('postgres', join '', map { insert_sql(stream_name => $_) . sprintf $old, @{ $rows{$_} }[ 0 .. 2 ], $_ } @names);
	return;
}

# A restored row that is pending is held, and stays whatever its age.
sub left { return [ map { $_->{stream_name} } $node->rows('SELECT stream_name FROM screenshot_task_request ORDER BY stream_name COLLATE "C"') ] }

# The worker sweeps when it starts.
sub sweep
{
	my $pid = $node->worker_pid;

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM screenshot_task_worker WHERE pid <> $pid AND state IN ('idle', 'disabled')");
}

$node->safe_psql('postgres', 'ALTER TABLE screenshot_task_request DROP CONSTRAINT end_time_must_be_at_most_24_hours_after_start_time');
make_rows();
ok(sweep(), 'with -1');
is_deeply(left(), \@names, 'nothing is removed');
is($node->safe_psql('postgres', 'SHOW screenshot_task.retention'), '-1', 'as SHOW says');

$node->append_conf('postgresql.conf', "screenshot_task.retention = '90d'");
$node->reload;
ok(sweep(), 'with 90 days');
ok(wait_until(sub { @{ left() } == grep { !$rows{$_}[3] } @names }), 'some are removed');
is_deeply(left(), [ grep { !$rows{$_}[3] } @names ], 'those that are finished, old, and have no task that is to come');

# In small batches, by the index; while busy too.  What cannot be removed, for a trigger or a foreign key, keeps neither
# the other old ones nor those to be sent; nor does a lock that somebody has on what refers to one.
$node->safe_psql('postgres', q{
	TRUNCATE screenshot_task_request;
	CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF OLD.stream_name = 'old 7' THEN RAISE 'not this one'; END IF; RETURN OLD; END $$;
	CREATE TRIGGER keep BEFORE DELETE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION keep();} . insert_sql(rows => 5000, stream_name => \"'old ' || i")
	  . q{UPDATE screenshot_task_request SET status = 'failed', finished_at = now() - interval '91 days';
	CREATE TABLE batch (n bigint);
	CREATE FUNCTION count_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.batch SELECT count(*) FROM gone; RETURN NULL; END $$;
	CREATE TRIGGER count_batch AFTER DELETE ON screenshot_task_request REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_batch();
	CREATE TABLE event (request_id bigint REFERENCES screenshot_task_request);
	INSERT INTO event SELECT id FROM screenshot_task_request WHERE stream_name ~ '^old 4...$';
	CREATE TABLE note (request_id bigint REFERENCES screenshot_task_request ON DELETE SET NULL, text text);
	INSERT INTO note SELECT id FROM screenshot_task_request WHERE stream_name = 'old 9';
	SELECT pg_stat_reset();});
my $locker = $node->background_psql('postgres');
$locker->query_safe(q{BEGIN; UPDATE note SET text = 'locked'});
$node->set('screenshot_task.enabled' => 'on');
ok(sweep(), 'many are old');
$node->safe_psql('postgres', insert_sql(rows => 300, stream_name => \"'new ' || i"));
ok($node->wait_for_table("status = 'created'", where => "stream_name LIKE 'new %'"), 'while they are removed others are sent');
ok($node->wait_for_log(qr/LOG:  could not remove 100\d old screenshot task requests\n.*DETAIL:  .*\n.*HINT:  Check the triggers on screenshot_task_request, and the foreign keys that reference it/), 'what cannot be removed is told of in a line');
is_deeply([ $node->rows(q{SELECT DISTINCT regexp_replace(stream_name, '4...', '4...') AS name FROM screenshot_task_request WHERE stream_name LIKE 'old %' ORDER BY 1}) ],
	[ map { { name => $_ } } 'old 4...', 'old 7', 'old 9' ], 'all others are');
$node->safe_psql('postgres', insert_sql(stream_name => 'newer'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'newer'"), 'and requests go on being sent');
$locker->query_safe('ROLLBACK');
$locker->quit;
$node->safe_psql('postgres', 'DROP TABLE event, note');
$node->reload;
ok(wait_until(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM screenshot_task_request WHERE stream_name LIKE 'old %'}) == 1 }), 'after a reload they are tried again');
is($node->safe_psql('postgres', q{SELECT stream_name FROM screenshot_task_request WHERE stream_name LIKE 'old %'}), 'old 7', 'all but what a trigger keeps');
is($node->safe_psql('postgres', 'SELECT max(n) BETWEEN 1 AND 200, sum(n) FROM batch'), 't|4999', 'in small batches');
cmp_ok($node->safe_psql('postgres', q{SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'screenshot_task_request_finished'}), '>', 0, 'by an index');

# When all are to be kept from now on, none is removed any more, though that was under way.
$node->safe_psql('postgres', insert_sql(rows => 20_000, stream_name => \"'older ' || i") . insert_sql(rows => 50, stream_name => \"'younger ' || i", end_time => \q{now() - interval '1 h'})
	  . q{UPDATE screenshot_task_request SET status = 'failed', next_attempt_at = NULL,
		finished_at = now() - CASE WHEN stream_name LIKE 'older %' THEN interval '91 days' ELSE interval '1 day' END WHERE stream_name ~ '^(older|younger) '});
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT count(*) < 20000 FROM screenshot_task_request WHERE stream_name LIKE 'older %'}), 'old ones are being removed');
$node->set('screenshot_task.retention' => '-1');
my $kept = 'SELECT count(*) FROM screenshot_task_request WHERE stream_name';
$node->safe_psql('postgres', insert_sql(stream_name => 'after all'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'after all'"), 'a request is sent');
my $older = $node->safe_psql('postgres', "$kept LIKE 'older %'");
cmp_ok($older, '>', 0, 'some old ones are left');
$node->safe_psql('postgres', 'SELECT pg_sleep(1)');
is($node->safe_psql('postgres', "$kept LIKE 'older %'"), $older, 'and stay');
is($node->safe_psql('postgres', "$kept LIKE 'younger %'"), 50, 'as do all others');
$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');

# A flood for next week, and many that back off, do not delay what starts in a minute; the soonest goes first.
my $after = sub { \"now() + interval '$_[0]'" };
$node->set('screenshot_task.enabled' => 'off');
$node->safe_psql('postgres', q{ALTER SERVER tencent_live OPTIONS (SET requests_per_second '20');}
	  . insert_sql(rows => 100_000, stream_name => \"'next week ' || i", start_time => $after->('7 days'), end_time => $after->('7 days 1 h'))
	  . insert_sql(rows => 20_000, stream_name => \"'backing off ' || i", end_time => $after->('20 h'))
	  . q{UPDATE screenshot_task_request SET next_attempt_at = now() + interval '10 min', attempts = 3 WHERE stream_name LIKE 'backing off %';}
	  . insert_sql(rows => 20_000, stream_name => \"'tomorrow ' || i", start_time => $after->('20 h'), end_time => $after->('21 h')));
my $arrived = $api->requests;
$node->set('screenshot_task.enabled' => 'on');
ok(wait_until(sub { $api->requests >= $arrived + 40 }), 'a backlog is being sent');
$node->safe_psql('postgres', insert_sql(stream_name => 'soon', start_time => $after->('1 min'), end_time => $after->('1 h')));
my $before = $api->requests;
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'soon'"), 'what starts soon is sent');
my @order = map { $_->{stream_name} } $api->requests;
my ($position) = grep { $order[$_] eq 'soon' } 0 .. $#order;
cmp_ok($position, '<=', $before + 41, 'ahead of the backlog, but for those that had been claimed');
is(scalar(grep { /next week|backing off/ } @order), 0, 'and nothing is sent that must wait');

done_testing();
