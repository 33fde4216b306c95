# An owner who makes of the table what it should not be: C code that reads its rows says which column is not as it was,
# and reads nothing.  The worker is blocked meanwhile, which is seen, and logged once; it goes on once that is mended.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new('--limit', 1000);
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.sweep_interval' => '1s', 'screenshot_task.reconcile_grace' => '100ms');

$node->add_server('tencent_live', $api, requests_per_second => 500);
$node->safe_psql('postgres', q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE app LOGIN;
	GRANT CREATE ON SCHEMA public TO owner;
	GRANT SELECT, INSERT ON screenshot_task_request TO app;
	GRANT USAGE ON FOREIGN SERVER tencent_live TO owner, app;
	ALTER TABLE screenshot_task_request OWNER TO owner;
	ALTER TYPE screenshot_task_status OWNER TO owner;
	CREATE TABLE event (stream_name text);
	GRANT INSERT ON event TO app;
	CREATE TRIGGER screenshots AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
		'domain_name:=5000.live.push.com', 'app_name:=live', 'template_id:=20001', 'end_time:=2999-07-10 13:00Z', 'start_time:=2999-07-10 12:00Z')});
my $worker = $node->worker_pid;
my $far = q{start_time => '2999-07-10 12:00Z', end_time => '2999-07-10 13:00Z'};

# One that waits for a year, to be waited for, cancelled, and woken
my $id = $node->safe_psql('postgres', "SELECT enqueue_screenshot_task('far', '5000.live.push.com', 'live', template_id => 1, $far)");

# What an owner does to the table, what undoes it, and how the error reads.  Rows are inserted first, as what makes a
# value of a text is then an address.
my $of_column = sub { my ($column, $detail) = @_; [ qr/^column "$column" of table "screenshot_task_request" does not match extension "screenshot_task"$/, $detail ] };
my $drop = 'ALTER TABLE screenshot_task_request DROP CONSTRAINT IF EXISTS stream_name_must_not_be_empty, DROP CONSTRAINT IF EXISTS stream_name_must_be_at_most_1024_bytes';
my @cases = (
	[ 'a text is a number', "$drop; ALTER TABLE screenshot_task_request ALTER stream_name TYPE bigint USING 4096",
		'ALTER TABLE screenshot_task_request ALTER stream_name TYPE text', $of_column->('stream_name', qr/^It has type bigint instead of text\.$/) ],
	[ 'a text is a small number', 'ALTER TABLE screenshot_task_request ALTER stream_name TYPE int USING 1',
		'ALTER TABLE screenshot_task_request ALTER stream_name TYPE text', $of_column->('stream_name', qr/^It has type integer instead of text\.$/) ],
	[ 'a number is a text', 'ALTER TABLE screenshot_task_request ALTER attempts DROP DEFAULT, ALTER attempts TYPE text',
		'ALTER TABLE screenshot_task_request ALTER attempts TYPE int USING attempts::int', $of_column->('attempts', qr/^It has type text instead of integer\.$/) ],
	[ 'a domain', 'CREATE DOMAIN name_of_app AS text; ALTER TABLE screenshot_task_request ALTER app_name TYPE name_of_app',
		'ALTER TABLE screenshot_task_request ALTER app_name TYPE text; DROP DOMAIN name_of_app', $of_column->('app_name', qr/^It has type (?:public\.)?name_of_app instead of text\.$/) ],
	[ 'a collation', 'ALTER TABLE screenshot_task_request ALTER server TYPE name COLLATE "POSIX"',
		'ALTER TABLE screenshot_task_request ALTER server TYPE name COLLATE "C"', $of_column->('server', qr/^It has collation "POSIX" instead of "C"\.$/) ],
	[ 'a column that is renamed', 'ALTER TABLE screenshot_task_request RENAME task_id TO task',
		'ALTER TABLE screenshot_task_request RENAME task TO task_id', $of_column->('task_id', qr/^It is named "task"\.$/) ],
	[ 'two that are exchanged', 'ALTER TABLE screenshot_task_request RENAME task_id TO t; ALTER TABLE screenshot_task_request RENAME request_id TO task_id; ALTER TABLE screenshot_task_request RENAME t TO request_id',
		'ALTER TABLE screenshot_task_request RENAME task_id TO t; ALTER TABLE screenshot_task_request RENAME request_id TO task_id; ALTER TABLE screenshot_task_request RENAME t TO request_id',
		$of_column->('task_id', qr/^It is named "request_id"\.$/) ],
	[ 'a value of the status', q{ALTER TYPE screenshot_task_status RENAME VALUE 'pending' TO 'waiting'},
		q{ALTER TYPE screenshot_task_status RENAME VALUE 'waiting' TO 'pending'}, $of_column->('status', qr/^Its type (?:public\.)?screenshot_task_status has no value "pending"\.$/) ]);


for my $case (@cases)
{
	my ($what, $change, $undo, $error) = @$case;
	my $sent = $api->requests;
	my $offset = $node->log_size;

	as_owner("BEGIN; $change; COMMIT");
	is_refused($what, $error);
	is_blocked($what, $error, $offset);
	is($api->requests, $sent, "$what: nothing was sent");
	as_owner($undo);
	goes_on($what);
}

# Columns of the owner's are welcome, and so are those that it has dropped again; and what else is not the shape.
as_owner('ALTER TABLE screenshot_task_request ADD mine text, ADD gone int; ALTER TABLE screenshot_task_request DROP gone, ADD more numeric DEFAULT 1.5');
goes_on('added columns');
is($node->try("SELECT (wait_for_screenshot_task($id, '0 s')).more", user => 'owner')->{rows}[0][0], '1.5', 'added columns: are returned');

# Without NOT NULL, what is null is none of any.
as_owner('ALTER TABLE screenshot_task_request ALTER server DROP NOT NULL, ALTER status DROP NOT NULL');
goes_on('null');
as_owner("UPDATE screenshot_task_request SET server = NULL WHERE stream_name = 'null'");
is($node->try("SELECT cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE stream_name = 'null'", user => 'owner')->{rows}[0][0], 'f', 'null: a task without a server is not cancelled');
as_owner("UPDATE screenshot_task_request SET status = NULL WHERE stream_name = 'null'");
is($node->try("SELECT cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE stream_name = 'null'", user => 'owner')->{rows}[0][0], 'f', 'null: nor is what has no status');
is($node->try("SELECT resolve_screenshot_task_request(id, NULL) FROM screenshot_task_request WHERE stream_name = 'null'", user => 'owner')->{error}{sqlstate}, '55000', 'null: or resolved');
as_owner("DELETE FROM screenshot_task_request WHERE stream_name = 'null'; ALTER TABLE screenshot_task_request ALTER server SET NOT NULL, ALTER status SET NOT NULL");
as_owner('ALTER TABLE screenshot_task_request DROP CONSTRAINT screenshot_task_request_pkey');
goes_on('no primary key');
is($node->try("SELECT stream_name FROM wait_for_screenshot_task($id, '0 s')", user => 'owner')->{rows}[0][0], '1', 'no primary key: a request is found');
as_owner('ALTER TABLE screenshot_task_request ADD CONSTRAINT other PRIMARY KEY (stamp, id)');
is($node->try("SELECT stream_name FROM wait_for_screenshot_task($id, '0 s')", user => 'owner')->{rows}[0][0], '1', 'another primary key: a request is found');
as_owner('ALTER TABLE screenshot_task_request DROP CONSTRAINT other, ADD CONSTRAINT screenshot_task_request_pkey PRIMARY KEY (id)');
as_owner('CREATE TABLE whole (LIKE screenshot_task_request INCLUDING GENERATED) PARTITION BY LIST (server)');
my $attach = 'ALTER TABLE whole ATTACH PARTITION screenshot_task_request DEFAULT';
if ($node->pg_version < 17)
{
	as_owner($attach);
	goes_on('a partition');
	as_owner(insert_sql(stream_name => 'through the whole') =~ s/screenshot_task_request \(/whole (id, requested_by, requested_at, status, attempts, misses, stream_type, server, /r
		  =~ s/SELECT /SELECT 4711, 'x', now(), 'pending', 0, 0, 0, 'tencent_live', /r);
	ok($node->wait_for_table("status = 'created'", where => "stream_name = 'through the whole'"), 'a partition: a row that comes through the whole');
	as_owner('ALTER TABLE whole DETACH PARTITION screenshot_task_request');
}
else
{
	my $error = $node->try($attach, user => 'owner')->{error};
	is_deeply([ @$error{qw(sqlstate message)} ], [ '55000', 'table "screenshot_task_request" being attached contains an identity column "id"' ],
		'a partition: PostgreSQL refuses a table with an identity column');
}
as_owner('DROP TABLE whole');

# The table renamed, and something else in its place: it is the table that counts, and not its name.
for my $other ('VIEW screenshot_task_request AS SELECT 1::bigint AS id', 'SEQUENCE screenshot_task_request',
	'TABLE screenshot_task_request (id text) PARTITION BY LIST (id)', 'TABLE screenshot_task_request (id text, stream_name bigint)')
{
	my ($kind) = $other =~ /(\w+)/;

	as_owner("ALTER TABLE screenshot_task_request RENAME TO renamed; CREATE $other");
	is($node->try("SELECT stream_name FROM wait_for_screenshot_task($id, '0 s')", user => 'owner')->{rows}[0][0], '1', "$other: a request is waited for");
	is($node->try("INSERT INTO event VALUES ('triggered')", user => 'app')->{error}, undef, "$other: the trigger");
	my $result = $node->try(q{SELECT enqueue_screenshot_task('enqueued', '5000.live.push.com', 'live', now() + interval '1 h', 1)}, user => 'app');
	is($node->try("SELECT status FROM wait_for_screenshot_task($result->{rows}[0][0], '3 min')", user => 'app')->{rows}[0][0], 'created', "$other: enqueued, and sent");
	is($node->try("SELECT cancel_screenshot_task_request($result->{rows}[0][0])", user => 'app')->{rows}[0][0], 'f', "$other: admin functions");
	as_owner("DROP $kind screenshot_task_request; ALTER TABLE renamed RENAME TO screenshot_task_request");
}

# Each transaction fails, and not for the table's shape
my $offset = $node->log_size;
$node->safe_psql('postgres', 'CREATE SCHEMA hidden; ALTER TABLE screenshot_task_request SET SCHEMA hidden');
is_blocked('no USAGE', [ qr/^permission denied for schema hidden$/ ], $offset);
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA hidden TO owner, app; ALTER ROLE app SET search_path = hidden, public; ALTER ROLE postgres SET search_path = hidden, public');
goes_on('no USAGE');
$node->safe_psql('postgres', 'ALTER TABLE screenshot_task_request SET SCHEMA public; DROP SCHEMA hidden');
$node->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLE screenshot_task_request; ALTER TABLE screenshot_task_request REPLICA IDENTITY NOTHING;');
$offset = $node->log_size;
is($node->try(insert_sql(stream_name => 'published'), user => 'app')->{error}, undef, 'published: a request is taken');
is_blocked('published', [ qr/^cannot update table "screenshot_task_request" because it does not have a replica identity and publishes updates$/ ], $offset);
is($api->requests(stream_name => 'published'), 0, 'published: nothing is sent');
as_owner('ALTER TABLE screenshot_task_request REPLICA IDENTITY DEFAULT');
goes_on('published');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'published'"), 'published: and what was inserted before is sent');
is($node->worker_pid, $worker, 'it is the same worker');

# What cannot be undone: the extension is made anew
for my $case ([ 'a column that is dropped', 'DROP error_code', $of_column->('error_code', qr/^It was dropped\.$/) ],
	[ 'a column that is not generated', 'ALTER origin DROP EXPRESSION', $of_column->('origin', qr/^It is no longer a generated column\.$/) ])
{
	my ($what, $change, $error) = @$case;
	my $before = $node->log_size;

	$worker = $node->worker_pid;
	as_owner("ALTER TABLE screenshot_task_request $change");
	is_refused($what, $error);
	is_blocked($what, $error, $before);
	$node->safe_psql('postgres', 'DROP EXTENSION screenshot_task CASCADE; CREATE EXTENSION screenshot_task');
	$node->add_server('tencent_live', $api, requests_per_second => 500);
	$node->safe_psql('postgres', 'ALTER TABLE screenshot_task_request OWNER TO owner; GRANT SELECT, INSERT ON screenshot_task_request TO app; GRANT USAGE ON FOREIGN SERVER tencent_live TO owner, app; '
		  . q{CREATE TRIGGER screenshots AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(
			'domain_name:=5000.live.push.com', 'app_name:=live', 'template_id:=20001', 'end_time:=2999-07-10 13:00Z', 'start_time:=2999-07-10 12:00Z')});
	$id = $node->safe_psql('postgres', "SELECT enqueue_screenshot_task('far', '5000.live.push.com', 'live', template_id => 1, $far)");
	goes_on($what);
}

unlike($node->log_text, qr/PANIC|terminated by signal/, 'nothing crashed');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub as_owner
{
	my ($sql) = @_;

	is($node->try($sql, user => 'owner')->{error}, undef, $sql);
	return;
}

# All that reads or writes rows in C raises this error.
sub is_refused
{
	my ($what, $error) = @_;
	my @uses = (
		[ app => 'INSERT INTO screenshot_task_request DEFAULT VALUES' ],
		[ app => "SELECT enqueue_screenshot_task('near', '5000.live.push.com', 'live', template_id => 1, $far)" ],
		[ app => "INSERT INTO event VALUES ('near')" ],
		[ app => "SELECT wait_for_screenshot_task($id, '1 s')" ],
		[ owner => 'UPDATE screenshot_task_request SET extension = extension' ],
		[ owner => "SELECT cancel_screenshot_task_request($id)" ],
		[ owner => "SELECT retry_screenshot_task_request($id)" ],
		[ owner => "SELECT resolve_screenshot_task_request($id, NULL)" ],
		[ owner => 'SELECT adopt_screenshot_task_requests()' ]);

	for my $use (@uses)
	{
		my $got = $node->try($use->[1], user => $use->[0])->{error};

		is($got->{sqlstate}, '42P16', "$what: $use->[1]") or diag explain $got;
		like($got->{message} // '', $error->[0], 'with a message');
		like($got->{detail} // '',  $error->[1], 'and a DETAIL');
		like($got->{hint} // '',    qr/\w/, 'and a HINT');
	}
	return;
}

sub shown { return ($node->rows('SELECT * FROM public.screenshot_task_worker'))[0] }

# The worker says so, once, and shows nothing that it cannot know.
sub is_blocked
{
	my ($what, $error, $offset, $times) = @_;
	my ($message, $detail) = map { s/^\(\?\^m?:\^?//r =~ s/\$?\)$//r } @$error;

	ok($node->poll_query_until('postgres', q{SELECT state = 'blocked' FROM public.screenshot_task_worker}), "$what: the worker is blocked");
	my $row = shown();
	is_deeply([ map { $row->{$_} } qw(pending waiting in_doubt held oldest_age drain_time) ], [ (undef) x 6 ], "$what: and counts nothing");
	like($row->{last_error}, defined $detail ? qr/^$message\nDETAIL:  $detail$/ : qr/^$message$/, "$what: what is wrong");
	sleep 2;
	is(scalar(() = $node->log_text($offset) =~ /\[$worker\] ERROR: /g), $times // 1, "$what: and logs it once");
	return;
}

# It goes on, once that is undone, with what there is and what comes.
sub goes_on
{
	my ($what) = @_;

	is($node->try(insert_sql(stream_name => $what), user => 'app')->{error}, undef, "$what: mended, requests are taken");
	ok($node->wait_for_table("status = 'created'", where => "stream_name = '$what'"), "$what: and sent");
	ok($node->poll_query_until('postgres', q{SELECT state <> 'blocked' AND waiting > 0 FROM public.screenshot_task_worker}), "$what: and counted");
	return;
}
