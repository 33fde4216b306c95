# The statements of the README and of the guide, those of docs/operation.md that look at something, and those of docs/security.md
# that keep keys out of the log, run as they stand there, and do what the pages say.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $top  = "$FindBin::RealBin/../..";
my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms');

# The pieces of SQL on a page, in order; or those under one heading of it.
sub recipes
{
	my ($page, $heading) = @_;
	my $text = slurp_file("$top/$page");

	($text) = $text =~ /^#+ \Q$heading\E\n(.*?)(?=^#|\z)/ms or die "$page has no section $heading" if defined $heading;
	return $text =~ /^```sql\n(.*?)^```$/msg;
}

sub recipe { return join "\n", recipes(@_) }

sub app
{
	my ($sql) = @_;

	return $node->try($sql, user => 'app');
}

# Runs a piece of the guide as the role that it is for.
sub run_piece
{
	my ($sql, %params) = @_;

	return $node->try($sql, $sql =~ /^-- as a superuser\n/ ? () : (user => 'app'), %params);
}

sub requests_of { return $node->table("stream_name = '$_[0]'", dbname => $_[1] // 'postgres') }

sub statuses_of { return [ map { $_->{status} } requests_of(@_) ] }

# ------------------------------------------------------------------------------------ README
# Each of the three servers can be created; the last is the stand-in, which is where this test has put it.
my ($first, @rest) = recipes('README.md');
my ($program, $dir, $port) = slurp_file("$top/README.md") =~ /`(\S+) --dir (\S+) --port (\d+)`/ or die 'README.md does not start the stand-in';
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
is($node->try($first, dbname => 'fresh')->{error}{message}, undef, 'the extension and the server of a mainland account are created');
for my $server (splice @rest, 0, 2)
{
	my $endpoint = $server =~ /endpoint '(.*?)'/ ? $1 : die "no endpoint in $server";
	if ($server =~ /ca_file/)
	{
		is($server =~ s{https://127\.0\.0\.1:$port'}{literal($api->endpoint) =~ s/^'//r}e, 1, 'the stand-in is at the port that it is started with');
		is($server =~ s{'$dir/ca\.pem'}{literal($api->ca_file)}e, 1, 'and its certificate in its folder');
	}
	is($node->try("DROP SERVER tencent_live; $server", dbname => 'fresh')->{error}{message}, undef, "the server of $endpoint is created");
}
my $started = join "\n", @rest;
my $result = $node->try($started, dbname => 'fresh');
is($result->{error}{message}, undef, 'all other statements run, in one session');
my ($task) = $api->ledger(event => 'create', stream_name => 'livetest');
is_deeply($result->{rows}[0], [ 'created', $task->{task_id}, '' ], 'the first request has its TaskId');
is_deeply([ @{ $result->{rows}[1] }[ 0, 1 ] ], [ 2, 'event 7' ], 'the trigger has requested screenshots of the event');
is_deeply([ sort map { $_->[0] } @{ $result->{rows} }[ 2 .. $#{ $result->{rows} } ] ], [ 'fresh', 'postgres' ], 'and the view shows the workers');
ok($node->wait_for_table("status = 'created'", dbname => 'fresh'), 'that of the event is created, too');
is(scalar(() = $api->ledger(event => 'create')), 2, 'once each');
ok(-x "$top/$_", "$_ is there") for $program, slurp_file("$top/README.md") =~ m{^    (test/\w+)}mg;

# ------------------------------------------------------------------------------------- Guide
for my $piece (recipes('docs/guide.md'))
{
	my ($begin) = $piece =~ /^(?:-- .*\n)*(.{1,60})/;
	my $got = run_piece($piece, dbname => 'fresh');

	is($got->{error}{message}, undef, "guide: $begin");
	if ($piece =~ /CREATE SERVER tencent_intl/)
	{
		$node->safe_psql('fresh', 'ALTER SERVER tencent_intl OPTIONS (SET endpoint ' . literal($api->endpoint) . ', ADD ca_file ' . literal($api->ca_file) . ')');
	}
	is($got->{rows}[0][0], 'created', 'what is waited for is created') if $piece =~ /FROM wait_for/;
	is($got->{rows}[0][0], 't', 'what is cancelled is pending until then') if $piece =~ /SELECT cancel_/;
	like($got->{rows}[0][1], qr/"StreamName":"livetest"/, 'the preview shows what would be sent') if $piece =~ /preview/;
}
ok($node->wait_for_table("status IN ('created', 'cancelled')", dbname => 'fresh', where => 'coalesce(start_time, now()) < now() + interval \'6 days\''),
	'what may be sent is sent');
is_deeply(statuses_of('opening', 'fresh'), ['created'], 'one that starts soon is created');
is_deeply(statuses_of('keynote', 'fresh'), ['pending'], 'one of next month is pending');
is_deeply([ map { scalar requests_of($_, 'fresh') } 'morning', 'night' ], [ 1, 0 ], 'the trigger of the guide makes a request where its condition holds');
is($node->safe_psql('fresh', "SELECT count(*) FROM screenshot_task_request WHERE reference = 'event 7'"), 1, 'what the trigger requested is not requested again');
is($node->safe_psql('fresh', "SELECT count(*) FROM screenshot_task_request WHERE server = 'tencent_intl' AND status = 'created'"), 1, 'the other server is used');
is_deeply(statuses_of('final', 'fresh'), [qw(cancelled cancelled)], 'what was requested for an event that was moved and deleted is cancelled');
is($node->safe_psql('fresh', 'SHOW screenshot_task.notify_channel'), 'screenshots', 'notifications are on');

# ---------------------------------------------------------------------------------- Security
# A key that is written in the way of docs/security.md is not in the log.
my ($quiet) = recipes('docs/security.md', 'Keys');
my $logged = $node->log_size;
is($node->try("$quiet ALTER USER MAPPING FOR app SERVER tencent_live OPTIONS (SET secret_key 'not-in-the-log'); ALTER USER MAPPING FOR app SERVER tencent_live OPTIONS (SET secret_key 'not-in-the-log', ADD x '')", dbname => 'fresh')->{error}{sqlstate}, 'HV00D', 'a key is written, and once in an error');
unlike($node->log_text($logged), qr/not-in-the-log/, 'and is not in the log');

$node->safe_psql('postgres', 'ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()');

# Its triggers and its INSERT once more, and closer, in a database of their own.
$node->add_server('tencent_live', $api, requests_per_second => 200, request_timeout => '2s');
my ($screenshots) = recipe('README.md', 'From a table of your own') =~ /^(CREATE TRIGGER .*?;\n)/ms;
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER tencent_live TO app; GRANT INSERT ON screenshot_task_request TO app;
	CREATE TABLE event (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, stream text, starts_at timestamptz, ends_at timestamptz); ALTER TABLE event OWNER TO app');
my $by_pages = () = $api->ledger(event => 'create');

# -------------------------------------------------------------------- Asked twice, done once
my @twice = grep { !/^-- as a superuser/ } recipes('docs/guide.md', 'Asked twice, done once');
app(q{INSERT INTO event (stream, starts_at, ends_at) SELECT 'scheduled ' || i, now() + '1 h', now() + '2 h' FROM generate_series(1, 3) AS i;
	INSERT INTO event (stream, starts_at, ends_at) VALUES ('over', now() - interval '2 h', now() - interval '1 h')});
my $once = app("@twice");
is($once->{error}{message}, undef, 'the recipe for asking twice runs');
my $second = app("@twice");
is($second->{error}{message}, undef, 'and once more');
is_deeply($second->{rows}, $once->{rows}, 'the id is the same');
is($node->safe_psql('postgres', 'SELECT count(*) FROM screenshot_task_request'), 4, 'and there is a request for each event that is not over, and one by hand');
ok($node->wait_for_table("status = 'created'"), 'their tasks are created');
is($api->ledger(event => 'create') - $by_pages, 4, 'once each');
$node->safe_psql('postgres', 'TRUNCATE event, screenshot_task_request');

# -------------------------------------------------------- When an event is deleted or moved
$node->safe_psql('postgres', $screenshots);

sub book
{
	my ($stream, $from) = @_;

	app("INSERT INTO event (stream, starts_at, ends_at) VALUES ('$stream', now() + interval '$from', now() + interval '$from' + interval '1 h')");
	return (requests_of($stream))[0];
}

# Streams of the tasks that live, of those given.
sub live { my %given = map { ($_ => 1) } @_; return [ grep { $given{$_} } map { $_->{stream_name} } $api->live ] }

# One whose task exists is withdrawn, at the commit alone.
book('deleted', '1 h');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'deleted'"), 'an event has a task');
app("BEGIN; DELETE FROM event WHERE stream = 'deleted'; ROLLBACK");
is_deeply(live('deleted'), ['deleted'], 'a rollback withdraws nothing');
is(app("DELETE FROM event WHERE stream = 'deleted'")->{error}{message}, undef, 'it is deleted');
ok($node->wait_for_table("status = 'withdrawn'", where => "stream_name = 'deleted'"), 'and its task is withdrawn');
is_deeply(live('deleted'), [], 'so that none is there');

# One that waits is cancelled, and a rollback undoes that.
book('far', '30 d');
app("BEGIN; DELETE FROM event WHERE stream = 'far'; ROLLBACK");
is_deeply(statuses_of('far'), ['pending'], 'a rollback cancels nothing');
app("DELETE FROM event WHERE stream = 'far'");
is_deeply(statuses_of('far'), ['cancelled'], 'one that waits is cancelled');

# One that is moved, there and back: a task for where it is, and none for where it was.
book('moved', '1 h');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'moved'"), 'an event has a task');
for my $by ('1 h', '-1 h')
{
	is(app("UPDATE event SET starts_at = starts_at + interval '$by', ends_at = ends_at + interval '$by' WHERE stream = 'moved'")->{error}{message}, undef, "it is moved by $by");
	ok($node->wait_for_table("status IN ('created', 'withdrawn')", where => "stream_name = 'moved'"), 'and has a task again');
}
my @moved = requests_of('moved');
is_deeply([ map { $_->{status} } @moved ], [qw(withdrawn withdrawn created)], 'of its three tasks the first two are withdrawn');
is_deeply([ map { $_->{replaces} } @moved ], [ undef, map { $_->{id} } @moved[ 0, 1 ] ], 'each request says which it replaced');
is_deeply([ map { $_->{task_id} } $api->live(stream_name => 'moved') ], [ $moved[2]{task_id} ], 'and one task lives');

# Twice in one transaction, and undone: nothing is sent for what was never committed.
app("BEGIN; UPDATE event SET ends_at = ends_at + interval '1 min' WHERE stream = 'moved'; UPDATE event SET ends_at = ends_at - interval '1 min' WHERE stream = 'moved'; COMMIT");
app("ALTER TABLE event ADD title text; UPDATE event SET title = 'x' WHERE stream = 'moved'");
is_deeply(statuses_of('moved'), [qw(withdrawn withdrawn created)], 'what is undone, and another column, is no reason');

# ---------------------------------------------------------------------------- What to watch
# One in doubt, whose task there is, left to a person
$node->safe_psql('postgres', q{TRUNCATE screenshot_task_request; ALTER SERVER tencent_live OPTIONS (ADD in_doubt 'hold')});
$api->order(fault => "error=$_", stream => $_) for 'InternalError,create', 'InvalidParameter';
$node->safe_psql('postgres', insert_sql(stream_name => $_)) for 'InternalError,create', 'InvalidParameter';
ok($node->wait_for_table("status = 'failed' OR status = 'in_doubt' AND next_attempt_at IS NULL"), 'one is left to a person, and one failed');
my ($doubtful) = requests_of('InternalError,create');
my ($watching) = recipes('docs/operation.md', 'What to watch');
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
is($node->try(recipe('docs/operation.md', 'A clock that jumps'))->{error}{message}, undef, 'what expired by a wrong clock is tried again');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'lies ahead'"), 'and created, where the end lies ahead');
is_deeply(statuses_of('is over'), ['expired'], 'and what is over stays so');

done_testing();
