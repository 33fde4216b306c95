# Dumps and copies: requests, states, numbers and grants are there; nothing is sent that may have been sent elsewhere,
# before somebody says so; and the log says that it is held.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my %conf = ('screenshot_task.sweep_interval' => '1s', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');
my $from = ScreenshotTaskTest->start_new('from', %conf);
my $into = ScreenshotTaskTest->start_new('into', %conf);
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
my $held = qr/WARNING:  (\d+) screenshot task requests? (?:is|are) held: (?:it|they) came in a dump or a copy of a database\n.*DETAIL:  (?:It is|They are) not sent because .*\n.*HINT:  Use adopt_screenshot_task_requests\(\) to have (?:it|them) sent from this database\.\n/;
my @columns = qw(id stream_name server reference requested_by requested_at status attempts sent_at finished_at task_id request_id error_code error_message);
my $columns = join ', ', @columns;

# Requests of two roles, in several states
$from->safe_psql('postgres', 'CREATE ROLE app; GRANT INSERT ON screenshot_task_request TO app');
$into->safe_psql('postgres', 'CREATE ROLE app');
$from->add_server('tencent_live', $api, request_timeout => '1s');
$from->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER tencent_live TO app;' . insert_sql(stream_name => 'made', reference => 'one')
	  . insert_sql(stream_name => 'fault:error=InvalidParameter#refused') . 'SET ROLE app;' . insert_sql(stream_name => 'made for app')
	  . insert_sql(stream_name => 'far', start_time => \"now() + interval '30 d'", end_time => \"now() + interval '30 d 1 h'"));
$from->wait_for_table("status IN ('created', 'failed')", where => "stream_name <> 'far'") or die;
$from->set('screenshot_task.enabled' => 'off');
$from->safe_psql('postgres', 'ALTER SERVER tencent_live OPTIONS (ADD max_in_flight \'1\');' . insert_sql(stream_name => 'pending') . insert_sql(stream_name => 'doubtful') . insert_sql(stream_name => 'sending'));
# As a worker that was killed would have left them
$from->safe_psql('postgres', "UPDATE screenshot_task_request SET status = 'in_doubt', attempts = 1, sent_at = now(), next_attempt_at = now() + interval '1 d' WHERE stream_name = 'doubtful';"
	  . "UPDATE screenshot_task_request SET status = 'sending', attempts = 1, sent_at = now() WHERE stream_name = 'sending'");
my @before = $from->rows("SELECT $columns FROM screenshot_task_request ORDER BY id");
is(scalar @before, 7, 'seven requests');
PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-d', $from->connstr('postgres'), '-f', $dump);
unlike(PostgreSQL::Test::Utils::slurp_file($dump), qr/CREATE TABLE [^\n]*screenshot_task_request/, 'the dump leaves the table to the extension');

# Into another cluster
$into->safe_psql('postgres', 'DROP EXTENSION screenshot_task');
restore($into, 'postgres');
is_deeply([ $into->rows("SELECT $columns FROM screenshot_task_request ORDER BY id") ], \@before, 'another cluster: the requests are there, as they were');
is_deeply([ $into->rows(q{SELECT has_table_privilege('app', 'screenshot_task_request', 'INSERT') AS i, has_server_privilege('app', 'tencent_live', 'USAGE') AS u}) ],
	[ $from->rows('SELECT true AS i, true AS u') ], 'another cluster: the grants are there');
ok($into->wait_for_log($held), 'another cluster: the log says that requests are held');
ok($into->poll_query_until('postgres', q{SELECT held = 4 AND pending = 0 FROM screenshot_task_worker WHERE datname = 'postgres'}), 'another cluster: so does screenshot_task_worker');
my $offset = $into->log_size;
my $requests = $api->requests + 0;
$into->safe_psql('postgres', insert_sql(stream_name => 'new'));
ok($into->wait_for_table("status = 'created'", where => "stream_name = 'new'"), 'another cluster: a new request is sent');
cmp_ok(($into->table("stream_name = 'new'"))[0]{id}, '>', $before[-1]{id}, 'another cluster: numbers go on');
is_deeply([ map { $_->{stream_name} } ($api->requests)[ $requests .. $api->requests - 1 ] ], ['new'], 'another cluster: and nothing else is');
ok(wait_until(sub { $into->safe_psql('postgres', "SELECT age(now(), pg_postmaster_start_time()) > interval '5 s'") eq 't' }), 'some sweeps go by');
unlike($into->log_text($offset), $held, 'another cluster: it says so once');

# Adopted: sent from there, and what may have been made is found out about.  Here the one in doubt was not made.
$from->stop;
is($into->safe_psql('postgres', 'SELECT adopt_screenshot_task_requests()'), 4, 'four requests are adopted');
ok($into->poll_query_until('postgres', q{SELECT held = 0 FROM screenshot_task_worker WHERE datname = 'postgres'}), 'and none is held any more');
$into->safe_psql('postgres', "UPDATE screenshot_task_request SET next_attempt_at = now() WHERE stream_name = 'doubtful'");
ok($into->wait_for_table("status = 'created'", where => "stream_name IN ('pending', 'doubtful', 'sending')"), 'adopted ones are created');
is($api->ledger(stream_name => $_), 1, "$_: one task") for 'pending', 'doubtful', 'sending', 'made', 'made for app';
my ($far) = $into->table("stream_name = 'far'");
is($far->{status}, 'pending', 'one that starts next month');
is($into->safe_psql('postgres', "SELECT next_attempt_at - (start_time - interval '6 d') BETWEEN '0' AND '1 min' FROM screenshot_task_request WHERE stream_name = 'far'"), 't', 'waits for its time');

# Into the same cluster, the table emptied, or the extension dropped before
PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-d', $into->connstr('postgres'), '-f', $dump);
PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-d', $into->connstr('postgres'), '-f', "$dump.data", '--data-only');
@before = $into->rows("SELECT $columns FROM screenshot_task_request ORDER BY id");
my $sent = $api->requests(action => 'CreateScreenshotTask') + 0;
$into->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
restore($into, 'postgres', "$dump.data");
is_deeply([ $into->rows("SELECT $columns FROM screenshot_task_request ORDER BY id") ], \@before, 'data into the same table: what was created is created');
$into->safe_psql('postgres', 'DROP EXTENSION screenshot_task CASCADE');
restore($into, 'postgres');
is_deeply([ $into->rows("SELECT $columns FROM screenshot_task_request ORDER BY id") ], \@before, 'into the same database: what was created is created');

# An ordinary role cannot pretend a restore.
my $row = "INSERT INTO screenshot_task_request (stream_name, domain_name, app_name, end_time, template_id, status, task_id, requested_by, stamp)"
  . " VALUES ('pretended', 'd', 'a', now() + interval '1 h', 1, 'created', 'x', 'postgres', 815)";
my $error = $into->try("SET ROLE app; $row")->{error};
is_deeply([ @$error{qw(sqlstate message)} ], [ '42501', 'only the owner of table "screenshot_task_request" may restore requests' ], 'a role inserts a row as a restore would');
is($into->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE stream_name = 'pretended'"), 0, 'and has none');

# A copy of the database
$into->safe_psql('postgres', 'SELECT adopt_screenshot_task_requests()');
$offset = $into->log_size;
$into->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
ok(wait_until(sub { $into->log_text($offset) =~ $held }), 'a copy: the log says that requests are held');
$into->safe_psql('copy', "UPDATE screenshot_task_request SET next_attempt_at = now() WHERE status = 'pending'");
$into->safe_psql('copy', insert_sql(stream_name => 'in the copy'));
ok($into->wait_for_table("status = 'created'", dbname => 'copy', where => "stream_name = 'in the copy'"), 'a copy: a new request is sent');
is($api->requests(action => 'CreateScreenshotTask', stream_name => 'far'), 0, 'a copy: what was pending is not');
# It does not matter how a dump is loaded, and what became of the rows before: what was pending in it and is created is
# not sent again, and what else is in the table goes on.
for my $way ([ 'triggers disabled', 'TRUNCATE screenshot_task_request', '--disable-triggers' ],
	[ 'some deleted, triggers disabled', "DELETE FROM screenshot_task_request WHERE stream_name LIKE 'twice %'", '--disable-triggers' ],
	[ 'session_replication_role', "DELETE FROM screenshot_task_request WHERE stream_name LIKE 'twice %'" ],
	[ 'triggers enabled', "DELETE FROM screenshot_task_request WHERE stream_name LIKE 'twice %'" ])
{
	my ($name, $empty, @options) = @$way;
	my $twice = "twice $name";
	my $other = "other $name";

	$into->safe_psql('postgres', 'TRUNCATE screenshot_task_request');
	$into->set('screenshot_task.enabled' => 'off');
	$into->safe_psql('postgres', insert_sql(stream_name => $twice));
	PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-d', $into->connstr('postgres'), '-f', "$dump.data", '--data-only', @options);
	$into->set('screenshot_task.enabled' => 'on');
	ok($into->wait_for_table("status = 'created'"), "$name: what was pending in the dump is created");
	$into->set('screenshot_task.enabled' => 'off');
	$into->safe_psql('postgres', insert_sql(stream_name => $other)) if $empty =~ /DELETE/;
	$into->safe_psql('postgres', $empty);
	{
		local $ENV{PGOPTIONS} = '-c session_replication_role=replica' if $name =~ /session/;
		restore($into, 'postgres', "$dump.data");
	}
	# Neither a rewrite of the table nor a change of a row is a restore.
	$into->safe_psql('postgres', 'VACUUM FULL screenshot_task_request');
	$into->safe_psql('postgres', 'VACUUM FREEZE screenshot_task_request');
	$into->safe_psql('postgres', 'UPDATE screenshot_task_request SET extension = stream_name');
	$into->safe_psql('postgres', insert_sql(stream_name => $other)) if $empty =~ /TRUNCATE/;
	$into->set('screenshot_task.enabled' => 'on');
	ok($into->wait_for_table("status = 'created'", where => "stream_name = '$other'"), "$name: another is sent");
	is($into->safe_psql('postgres', 'BEGIN; SELECT adopt_screenshot_task_requests(); ROLLBACK'), 1, "$name: one is held");
	is_deeply([ map { $_->{status} } $into->table("stream_name = '$twice'") ], ['pending'], "$name: it is pending, as in the dump");
	is($api->requests(action => 'CreateScreenshotTask', stream_name => $twice), 1, "$name: and was not sent again");
}

# A column of the owner's is in the dump, and not in the table that the extension makes: so it is added first.
$into->safe_psql('postgres', q{ALTER TABLE screenshot_task_request ADD mine text DEFAULT 'mine'; CREATE DATABASE without; CREATE DATABASE beforehand});
PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-d', $into->connstr('postgres'), '-f', $dump);
isnt(system("psql -XqAt -v ON_ERROR_STOP=1 -d '" . $into->connstr('without') . "' -f $dump >$dump.out 2>&1"), 0, 'a column that was added: the rows fail to restore');
like(PostgreSQL::Test::Utils::slurp_file("$dump.out"), qr/column "mine" of relation "screenshot_task_request" does not exist/, 'and psql says why');
$into->safe_psql('beforehand', 'CREATE EXTENSION screenshot_task; ALTER TABLE screenshot_task_request ADD mine text');
restore($into, 'beforehand');
is($into->safe_psql('beforehand', q{SELECT count(*) > 0 AND bool_and(mine = 'mine' AND origin = 0) FROM screenshot_task_request}), 't', 'with the column added beforehand they are there');

is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub restore
{
	my ($node, $dbname, $file) = @_;

	PostgreSQL::Test::Utils::system_or_bail('psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($dbname), '-o', '/dev/null', '-f', $file // $dump);
	return;
}
