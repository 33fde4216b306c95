# The first steps and the recipes of the README, and what docs/operation.md has to look at, run as they stand there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms');

# The pieces of SQL under a heading, of the README unless it is another page.
sub recipes
{
	my ($heading, $page) = (@_, 'README.md');
	my ($section) = slurp_file("$FindBin::RealBin/../../$page") =~ /^#+ \Q$heading\E\n(.*?)(?=^#|\z)/ms
	  or die "$page has no section $heading";

	return $section =~ /^```sql\n(.*?)^```$/msg;
}

sub recipe { return join "\n", recipes(@_) }

sub app
{
	my ($sql) = @_;

	return $node->try($sql, user => 'app');
}

sub requests_of { return $node->table("stream_name = '$_[0]'") }

sub statuses_of { return [ map { $_->{status} } requests_of($_[0]) ] }

$node->add_server('tencent_live', $api, requests_per_second => 200, request_timeout => '2s');
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN SERVER tencent_live TO app; GRANT INSERT ON screenshot_task_request TO app; GRANT CREATE ON SCHEMA public TO app;
	CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text, starts_at timestamptz, ends_at timestamptz); ALTER TABLE event OWNER TO app');

# ------------------------------------------------------------- Three steps to the real service
# To the stand-in, that is, with its account.
my ($superuser, $user) = recipes('Three steps to the real service');
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
is($node->try($superuser, dbname => 'fresh')->{error}{message}, undef, 'the first steps run');
$node->safe_psql('fresh', 'ALTER SERVER tencent_live OPTIONS (ADD endpoint ' . literal($api->endpoint) . ', ADD ca_file ' . literal($api->ca_file) . ');'
	  . 'ALTER USER MAPPING FOR app SERVER tencent_live OPTIONS (SET secret_id ' . literal(LiveApi::SECRET_ID) . ', SET secret_key ' . literal(LiveApi::SECRET_KEY) . ')');
my $result = $node->try($user, dbname => 'fresh', user => 'app');
is($result->{error}{message}, undef, 'and the role may send');
is($result->{rows}[-1][0], 'created', 'what is requested is created');
my $by_steps = () = $api->ledger(event => 'create');
is($by_steps, 1, 'once');

# ------------------------------------------------------------------------- In a transaction
is($node->try(recipe('In a transaction') . "GRANT INSERT ON event TO app", dbname => 'fresh')->{error}, undef, 'the recipe for a trigger runs');
is($node->try(q{INSERT INTO event VALUES (7, 'by trigger', now() + interval '8 d', now() + interval '8 d 2 h')}, dbname => 'fresh', user => 'app')->{error}, undef, 'an event is booked');
is($node->safe_psql('fresh', q{SELECT status, reference, end_time - start_time BETWEEN '2 h' AND '2 h 1 s' FROM screenshot_task_request WHERE stream_name = 'by trigger'}), 'pending|7|t', 'and its screenshots are requested');

# -------------------------------------------------------------------- Asked twice, done once
my $twice = recipe('Asked twice, done once');
app(q{INSERT INTO event (stream, starts_at, ends_at) SELECT 'scheduled ' || i, now() + '1 h', now() + '2 h' FROM generate_series(1, 3) AS i;
	INSERT INTO event (stream, starts_at, ends_at) VALUES ('over', now() - interval '2 h', now() - interval '1 h')});
my $first = app($twice);
is($first->{error}{message}, undef, 'the recipe for asking twice runs');
my $second = app($twice);
is($second->{error}{message}, undef, 'and once more');
is_deeply($second->{rows}, $first->{rows}, 'the id is the same');
is($node->safe_psql('postgres', 'SELECT count(*) FROM screenshot_task_request'), 4, 'and there is a request for each event that is not over, and one by hand');
ok($node->wait_for_table("status = 'created'"), 'their tasks are created');
is($api->ledger(event => 'create') - $by_steps, 4, 'once each');
app('DELETE FROM event');

# -------------------------------------------------------- When an event is deleted or moved
is(app(recipe('When an event is deleted or moved'))->{error}{message}, undef, 'the recipe for what is deleted or moved runs');

sub book
{
	my ($stream, $from) = @_;

	app("INSERT INTO event (stream, starts_at, ends_at) VALUES ('$stream', now() + interval '$from', now() + interval '$from' + interval '1 h')");
	return (requests_of($stream))[0];
}

# One whose task exists is stopped, and only at the commit.
book('deleted', '1 h');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'deleted'"), 'an event has a task');
app("BEGIN; DELETE FROM event WHERE stream = 'deleted'; ROLLBACK");
is(scalar $api->ledger(event => 'stop'), 0, 'a rollback stops nothing');
is(app("DELETE FROM event WHERE stream = 'deleted'")->{error}{message}, undef, 'it is deleted');
is_deeply([ map { $_->{task_id} } $api->ledger(event => 'stop') ], [ (requests_of('deleted'))[0]{task_id} ], 'and its task is stopped');

# One that waits is cancelled, and a rollback undoes that.
book('far', '30 d');
app("BEGIN; DELETE FROM event WHERE stream = 'far'; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK");
is_deeply(statuses_of('far'), ['pending'], 'a rollback cancels nothing');
app("DELETE FROM event WHERE stream = 'far'");
is_deeply(statuses_of('far'), ['cancelled'], 'one that waits is cancelled');

# One that is moved, there and back: a task for where it is, and none for where it was.
book('moved', '1 h');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'moved'"), 'an event has a task');
for my $by ('1 h', '-1 h')
{
	is(app("UPDATE event SET starts_at = starts_at + interval '$by', ends_at = ends_at + interval '$by' WHERE stream = 'moved'")->{error}{message}, undef, "it is moved by $by");
	ok($node->wait_for_table("status = 'created'", where => "stream_name = 'moved'"), 'and has a task again');
}
my @moved = requests_of('moved');
my %stopped = map { $_->{task_id} => 1 } $api->ledger(event => 'stop');
is_deeply([ map { $stopped{ $_->{task_id} } // 0 } @moved ], [ 1, 1, 0 ], 'of its three tasks the first two are stopped');
is($node->safe_psql('postgres', "SELECT screenshot_request FROM event WHERE stream = 'moved'"), $moved[2]{id}, 'and the row has the number of the last');

# Twice in one transaction: nothing is sent for what was never committed.
app("BEGIN; UPDATE event SET ends_at = ends_at + interval '1 min' WHERE stream = 'moved'; UPDATE event SET ends_at = ends_at + interval '1 min' WHERE stream = 'moved'; COMMIT");
ok($node->wait_for_table("status IN ('created', 'cancelled')", where => "stream_name = 'moved'"), 'it is moved twice at once');
is_deeply(statuses_of('moved'), [qw(created created created cancelled created)], 'and what was requested in between is cancelled');

# Other columns change nothing; one that is over has nothing to stop.
my $stops = () = $api->ledger(event => 'stop');
app("ALTER TABLE event ADD title text; UPDATE event SET title = 'x' WHERE stream = 'moved'");
is(scalar requests_of('moved'), 5, 'another column is no reason');
$node->safe_psql('postgres', "UPDATE screenshot_task_request SET start_time = start_time - interval '1 d', end_time = end_time - interval '1 d' WHERE stream_name = 'moved'");
is(app("DELETE FROM event WHERE stream = 'moved'")->{error}{message}, undef, 'one whose tasks are over is deleted');
is(scalar(() = $api->ledger(event => 'stop')), $stops, 'and nothing is stopped');

# One that is being sent is waited for.
$node->safe_psql('postgres', q{ALTER SERVER tencent_live OPTIONS (SET request_timeout '5min')});
$api->pause;
book('just now', '1 h');
ok($node->poll_query_until('postgres', q{SELECT status = 'sending' FROM screenshot_task_request WHERE stream_name = 'just now'}), 'one is being sent');
my $deleting = $node->begin("DELETE FROM event WHERE stream = 'just now'", user => 'app');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^DELETE FROM event' AND wait_event_type = 'Extension'}), 'its deletion waits');
$api->go_on;
is($deleting->end->{error}{message}, undef, 'while it is deleted');
$node->safe_psql('postgres', q{ALTER SERVER tencent_live OPTIONS (SET request_timeout '2s')});
is(scalar $api->ledger(event => 'stop', task_id => (requests_of('just now'))[0]{task_id}), 1, 'its task is waited for, and stopped');

# One that is in doubt and left to a person is cancelled, with a warning; one whose row is gone is let be.
$node->safe_psql('postgres', q{ALTER SERVER tencent_live OPTIONS (ADD in_doubt 'hold')});
$api->order(fault => 'close', stream => 'doubtful', action => 'CreateScreenshotTask');
book('doubtful', '1 h');
ok($node->wait_for_table("status = 'in_doubt' AND next_attempt_at IS NULL", where => "stream_name = 'doubtful'"), 'one is in doubt');
my $warning;
$node->psql('postgres', "DELETE FROM event WHERE stream = 'doubtful'", stderr => \$warning, extra_params => [ '-U', 'app' ]);
like($warning, qr/WARNING:  screenshot task request \d+ was in doubt: its task may exist/, 'its deletion says so');
is_deeply(statuses_of('doubtful'), ['cancelled'], 'and cancels it');
book('forgotten', '30 d');
$node->safe_psql('postgres', "DELETE FROM screenshot_task_request WHERE stream_name = 'forgotten'");
is(app("DELETE FROM event WHERE stream = 'forgotten'")->{error}{message}, undef, 'one whose request is gone is deleted');

# ---------------------------------------------------------------------------- What to watch
# One in doubt, whose task there is, left to a person
$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
$api->order(fault => "error=$_", stream => $_) for 'InternalError,create', 'InvalidParameter';
$node->safe_psql('postgres', insert_sql(stream_name => $_)) for 'InternalError,create', 'InvalidParameter';
ok($node->wait_for_table("status = 'failed' OR status = 'in_doubt' AND next_attempt_at IS NULL"), 'one is left to a person, and one failed');
my ($doubtful) = requests_of('InternalError,create');
my ($watching) = recipes('What to watch', 'docs/operation.md');
my @looks = split /\n\n/, $watching =~ s/\b42\b/$doubtful->{id}/r;
is_deeply([ map { scalar @{ $node->try($_)->{rows} // [] } } @looks[ 0 .. 2 ] ], [ 2, 1, 1 ], 'each look shows what it is for');
is($node->try($looks[2])->{rows}[0][0], ($api->ledger(stream_name => 'InternalError,create'))[0]{task_id}, 'the task of the one in doubt');
is($node->try($looks[3])->{error}, undef, 'those that failed are tried again');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'InvalidParameter'"), 'and the other is sent again');

# ----------------------------------------------------------------------- A clock that jumps
# What expired by a clock that was ahead, as that clock left it; the end of one has come meanwhile.
$node->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
$node->set('screenshot_task.enabled' => 'off');
$node->safe_psql('postgres', insert_sql(stream_name => 'lies ahead', rows => 2) . insert_sql(stream_name => 'is over', end_time => \"now() + interval '1 s'")
	  . "UPDATE screenshot_task_request SET status = 'expired', finished_at = now(), next_attempt_at = NULL, error_message = 'end_time passed before the request could be sent'; SELECT pg_sleep(1.1)");
$node->set('screenshot_task.enabled' => 'on');
is($node->try(recipe('A clock that jumps', 'docs/operation.md'))->{error}{message}, undef, 'what expired by a wrong clock is tried again');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'lies ahead'"), 'and created, where the end lies ahead');
is_deeply(statuses_of('is over'), ['expired'], 'and what is over stays so');

done_testing();
