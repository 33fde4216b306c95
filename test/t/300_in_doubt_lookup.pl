# Requests in doubt are found out about: their tasks are found and taken over, or they are sent again; and where
# nothing can be found out, a person is told what to do, and can.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant { TIMEOUT => 1, GRACE => 0.1, SPACING => 0.3, RATE => 2 };

my @slow = ('AKIDSLOW', 'aSecretKeyOfItsOwn');
my $api  = LiveApi->new('--page-size', 2, map { ('--account', join ':', @$_) } \@LiveApi::account, \@slow);
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => GRACE . 's',
	'screenshot_task.reconcile_spacing' => SPACING . 's');
my $found     = 'was in doubt; task found by DescribeScreenshotTask';
my %with_start = (
	start_time => \"date_trunc('second', now()) + interval '1 h 700 ms'",
	end_time   => \"date_trunc('second', now()) + interval '2 h 300 ms'");

$node->add_server($_, $api, request_timeout => TIMEOUT . 's') for qw(tencent_live found twin refused);
my $servers = 0;
$node->add_server('hold',   $api, request_timeout => TIMEOUT . 's', in_doubt => 'hold');
$node->add_server('resend', $api, request_timeout => TIMEOUT . 's', in_doubt => 'resend');
$node->add_server('slow',   $api, request_timeout => TIMEOUT . 's', requests_per_second => RATE, account => \@slow);
$node->safe_psql('postgres', 'CREATE ROLE app; CREATE ROLE other; GRANT INSERT ON screenshot_task_request TO app;'
	  . 'GRANT USAGE ON FOREIGN SERVER hold TO app');

# In doubt and found, with a start and without
my @found = ('fault:hang,create', 'fault:half,create', 'fault:error=InternalError,create');
my @sql = map { insert_sql(server => own_server(), stream_name => $_), insert_sql(server => own_server(), stream_name => "$_#start", %with_start) } @found;
$node->safe_psql('postgres', "BEGIN; @sql COMMIT");
ok($node->wait_for_table("status = 'created'"), 'what is in doubt is created in the end');
for my $stream (@found, map { "$_#start" } @found)
{
	my ($row)  = $node->table("stream_name = '$stream'");
	my ($task) = $api->ledger(stream_name => $stream);
	is_deeply([ @$row{qw(task_id attempts next_attempt_at error_code error_message)} ], [ $task->{task_id}, 1, undef, undef, $found ], "$stream: found");
	is(sent($stream), 1, "$stream: sent once");
	is_deeply([ $row->{trace_id} ], [ traced('Create', $stream) ], "$stream: with the trace id of the row");
	like($node->log_text, qr/resolved screenshot task request $row->{id}: task found\n/, "$stream: log");
	cmp_ok(first_asked($stream), '>=', (requests('Create', $stream))[0]{time} + TIMEOUT + GRACE,
		"$stream: asked after the time-out and the grace");
}

# Not found twice, and sent again
my @lost = ('fault:hang,times=1', 'fault:half,times=1', 'fault:error=InternalError,times=1');
@sql = map { insert_sql(server => own_server(), stream_name => $_), insert_sql(server => own_server(), stream_name => "$_#start", %with_start) } @lost;
$node->safe_psql('postgres', "BEGIN; @sql COMMIT");
ok($node->wait_for_table("status = 'created'"), 'what was not found is sent again');
for my $stream (@lost, map { "$_#start" } @lost)
{
	my ($row) = $node->table("stream_name = '$stream'");
	my @tasks = $api->ledger(stream_name => $stream);
	my @asked = requests('Describe', $stream);
	is_deeply([ @$row{qw(task_id attempts error_code error_message)} ], [ $tasks[0]{task_id}, 2, undef, undef ], "$stream: sent again");
	is_deeply([ scalar @tasks, sent($stream), scalar @asked ], [ 1, 2, 2 ], "$stream: one task, sent twice, asked about twice");
	is($row->{trace_id}, (traced('Create', $stream))[1], "$stream: the row has the trace id of the second time");
	my %trace_ids = map { ($_ => 1) } traced('Create', $stream), traced('Describe', $stream);
	is(keys %trace_ids, 4, "$stream: each request had another one");
	cmp_ok($asked[1]{time} - $asked[0]{time}, '>=', SPACING, "$stream: asked with a space between");
	cmp_ok((requests('Create', $stream))[1]{time}, '>', $asked[1]{time}, "$stream: sent after it was asked about twice");
	like($node->log_text, qr/resending screenshot task request $row->{id}: no task found in two lookups\n/, "$stream: log");
}

# Equal requests are counted.  Of each kind the stand-in makes fewer tasks than there are requests.
equal('three equal requests of which two were made', 3, [ 'error=InternalError,create', 'hang,create', 'hang' ]);
equal('three equal requests with a start', 3, [ 'error=InternalError,create', 'hang,create', 'hang' ], %with_start);
equal('three equal requests of which one has already been created', 3, [ 'hang,create', 'hang' ]);
equal('three equal requests of which none was made', 3, [ ('error=InternalError') x 3 ]);
equal('seven equal requests, on several pages', 7, [ ('error=InternalError,create') x 5, ('error=InternalError') x 2 ]);
cmp_ok(requests('Describe', 'seven equal requests, on several pages'), '>=', 3, 'three pages or more were read');
is(scalar(grep { $_->{stream_name} eq 'a neighbour' } $api->ledger), 1, 'the neighbour was made once');

# Equal requests of two servers
$api->order(fault => 'error=InternalError,create', stream => 'both', action => 'CreateScreenshotTask');
$api->order(fault => 'error=InternalError', stream => 'both', action => 'CreateScreenshotTask');
$node->safe_psql('postgres', 'BEGIN;' . insert_sql(stream_name => 'both', server => 'found') . insert_sql(stream_name => 'both', server => 'twin') . 'COMMIT');
ok($node->wait_for_table("status = 'created'"), 'equal requests of two servers end');
one_task_each('both', 2);
is(sent('both'), 3, 'both: one of them was sent again');

# DescribeScreenshotTask has a rate window of its own.
$node->safe_psql('postgres', insert_sql(rows => 12, server => 'slow', stream_name => \"'fault:error=InternalError,create#' || i"));
ok($node->wait_for_table("status = 'created'"), 'a dozen in doubt are created at a low rate');
my %slow = (secret_id => $slow[0]);
cmp_ok($api->most_in_a_second(%slow, action => 'CreateScreenshotTask'),   '<=', RATE, 'no more are sent in a second than the limit');
cmp_ok($api->most_in_a_second(%slow, action => 'DescribeScreenshotTask'), '<=', RATE, 'nor asked about');
cmp_ok($api->most_in_a_second(%slow), '>', RATE, 'but more of both together');
is($api->requests(%slow, action => 'CreateScreenshotTask'), 12, 'each was sent once');

# The server's option in_doubt
$node->safe_psql('postgres', insert_sql(server => 'resend', stream_name => 'fault:error=InternalError,times=1#resend'));
$node->safe_psql('postgres', insert_sql(server => 'hold', stream_name => 'fault:error=InternalError#held'));
ok($node->wait_for_table("status = 'created'", where => "server = 'resend'"), 'resend: created');
ok($node->wait_for_table("status = 'in_doubt' AND next_attempt_at IS NULL", where => "stream_name LIKE 'fault:%#held'"), 'hold: stays in doubt');
my ($row) = $node->table("stream_name LIKE 'fault:%#held'");
is($row->{error_message}, qq{in doubt; server option in_doubt is "hold". Check whether the task exists, then call resolve_screenshot_task_request($row->{id}, TaskId), or with NULL if it does not.}, 'hold: says how to resolve it');
is_deeply([ $row->{trace_id} ], [ traced('Create', $row->{stream_name}) ], 'hold: has the trace id of what was not answered');
($row) = $node->table("server = 'resend'");
is_deeply([ $row->{attempts}, sent($row->{stream_name}), $row->{task_id} ], [ 2, 2, ($api->ledger(stream_name => $row->{stream_name}))[0]{task_id} ], 'resend: sent again');
is($api->ledger(stream_name => $row->{stream_name}), 1, 'resend: one task');
is(scalar(grep { $_->{action} =~ /Describe/ && $_->{stream_name} =~ /held|resend/ } $api->requests), 0, 'hold, resend: nobody was asked');
# Who cannot wait is not served before the first one can no longer arrive.
$node->add_server('patient', $api, request_timeout => '5min', in_doubt => 'resend');
$node->safe_psql('postgres', insert_sql(server => 'patient', stream_name => 'fault:error=InternalError,create#patient'));
my $patient = "server = 'patient' AND status = 'in_doubt' AND attempts = 1 AND next_attempt_at";
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM screenshot_task_request WHERE $patient > now() + interval '1 min')"), 'resend: in doubt for as long as it may be under way');
$node->safe_psql('postgres', "SELECT retry_screenshot_task_request(id) FROM screenshot_task_request WHERE $patient > now()");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM screenshot_task_request WHERE $patient = sent_at + interval '5 min' + interval '" . GRACE . " s')"), 'resend: also if it is to be tried at once');
is(sent('fault:error=InternalError,create#patient'), 1, 'resend: and not sent meanwhile');
$node->safe_psql('postgres', "SELECT cancel_screenshot_task_request(id) FROM screenshot_task_request WHERE server = 'patient'");
$node->safe_psql('postgres', "SELECT resolve_screenshot_task_request(id, 'made up') FROM screenshot_task_request WHERE status = 'in_doubt'");

# Equal requests without a start that were sent at different times: the list about one says nothing of the other.
$node->add_server('apart', $api, request_timeout => '5min');
my $end = $node->safe_psql('postgres', "SELECT date_trunc('second', now()) + interval '1 h'");
for my $fault ('error=InternalError', 'error=InternalError,create')
{
	$api->order(fault => $fault, stream => 'apart', action => 'CreateScreenshotTask');
	$node->safe_psql('postgres', insert_sql(server => 'apart', stream_name => 'apart', end_time => $end));
	ok($node->wait_for_table("status = 'in_doubt'", where => "server = 'apart'"), "apart: in doubt after $fault");
}
$node->safe_psql('postgres', "UPDATE screenshot_task_request SET next_attempt_at = now() - (2 - n) * interval '1 s', sent_at = now() - CASE n WHEN 1 THEN interval '26 min' ELSE interval '6 min' END
	FROM (SELECT id AS numbered, row_number() OVER (ORDER BY id) AS n FROM screenshot_task_request WHERE server = 'apart') AS r WHERE id = numbered");
$node->reload;
ok($node->wait_for_table("status = 'created'", where => "server = 'apart'"), 'apart: both are created');
my @apart = $node->table("server = 'apart'");
my @made = $api->ledger(stream_name => 'apart', event => 'create');
is_deeply([ map { $_->{attempts} } @apart ], [ 2, 1 ], 'apart: the one that had no task is sent again, and the other not');
is_deeply([ map { $_->{task_id} } @apart ], [ map { $_->{task_id} } reverse @made ], 'apart: each has its own');

# DescribeScreenshotTask is not to be had
my @codes = qw(InvalidAction UnauthorizedOperation UnauthorizedOperation.CamNoAuth AuthFailure.UnauthorizedOperation UnsupportedOperation);
for my $code (@codes)
{
	$api->order(fault => "error=$code", action => 'DescribeScreenshotTask', stream => $_, times => 0) for "no $code", "no $code, none made";
	$api->order(fault => "error=InternalError,create", action => 'CreateScreenshotTask', stream => "no $code");
	$api->order(fault => "error=InternalError", action => 'CreateScreenshotTask', stream => "no $code, none made");
}
$node->safe_psql('postgres', insert_sql(server => 'refused', stream_name => "no $_") . insert_sql(server => 'refused', stream_name => "no $_, none made")) for @codes;
my $left = "status = 'in_doubt' AND next_attempt_at IS NULL";
ok($node->wait_for_table($left, where => "server = 'refused'"), 'what cannot be asked about stays in doubt');
for my $code (@codes)
{
	for my $stream ("no $code", "no $code, none made")
	{
		my ($row) = $node->table("stream_name = '$stream'");
		is($row->{error_message}, "in doubt; task lookup refused: $code: ordered by a test. Check whether the task exists, then call resolve_screenshot_task_request($row->{id}, TaskId), or with NULL if it does not.", "$stream: says why, and how to resolve it");
		like($node->log_text, qr/screenshot task request $row->{id} remains in doubt: task lookup refused\n.*DETAIL:  \Q$code\E: ordered by a test\n.*HINT:  Check whether the task exists, then call resolve_screenshot_task_request\(\)\./, "$stream: log");
	}
}
# Others go by, and are reconciled, before it is counted how often those were asked about
$node->safe_psql('postgres', insert_sql(server => 'refused', stream_name => 'fault:error=InternalError,times=1#passing'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'fault:error=InternalError,times=1#passing'"), 'others are asked about');
is_deeply([ map { scalar requests('Describe', "no $_"), scalar requests('Describe', "no $_, none made") } @codes ], [ (1) x (2 * @codes) ], 'those not again: no loop');
# That tasks were not made, ten times in a row, is a reason to pause.
is_deeply([ grep { !/inconclusive answers in a row/ } $node->log_text =~ /server "refused" are paused for \d+ s\n.*DETAIL:  (.*)/g ], [], 'and nothing is paused for that');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE server = 'refused' AND $left"), 2 * @codes, 'all stay in doubt');

# A person resolves them
my ($made) = $api->ledger(stream_name => 'no InvalidAction');
resolve('no InvalidAction', literal($made->{task_id}));
resolve('no InvalidAction, none made', 'NULL');
resolve('no UnauthorizedOperation', literal(($api->ledger(stream_name => 'no UnauthorizedOperation'))[0]{task_id}));
resolve('no UnauthorizedOperation, none made', 'NULL');
ok($node->wait_for_table("status = 'created'", where => "stream_name ~ '^no (InvalidAction|UnauthorizedOperation)(,|\$)'"), 'resolved ones are created');
is_deeply([ map { @$_{qw(task_id attempts error_code error_message)} } $node->table("stream_name = 'no InvalidAction'") ],
	[ $made->{task_id}, 1, undef, 'was in doubt; resolved by hand' ], 'with a TaskId: as told');
for my $code (qw(InvalidAction UnauthorizedOperation))
{
	one_task_each($_, 1) for "no $code", "no $code, none made";
	is_deeply([ sent("no $code"), sent("no $code, none made") ], [ 1, 2 ], "$code: only the one that was not made was sent again");
}
$api->clear_orders;
$node->safe_psql('postgres', "SELECT retry_screenshot_task_request(id) FROM screenshot_task_request WHERE $left");
ok($node->wait_for_table("status = 'created'", where => "server = 'refused'"), 'retried ones are asked about again, and end');
one_task_each($_, 1) for map { ("no $_", "no $_, none made") } @codes;

# However many of a server cannot be asked about, those of others can.
# They are asked about once all are in doubt.
$node->add_server('running', $api, request_timeout => TIMEOUT . 's');
$node->add_server('stopped', $api, request_timeout => '5min');
$api->order(fault => 'error=InternalError', action => 'CreateScreenshotTask', stream => 'stopped', times => 40);
$api->order(fault => 'error=AuthFailure.SecretIdNotFound', action => 'DescribeScreenshotTask', stream => 'stopped', times => 0);
$node->safe_psql('postgres', insert_sql(server => 'stopped', stream_name => 'stopped', rows => 40,
	start_time => \"date_trunc('second', now()) + interval '1 h' + i * interval '1 s'", end_time => \"date_trunc('second', now()) + interval '2 h'"));
# So many answers in a row that leave it open pause the server, until a reload.
ok(wait_until(sub { $node->reload; sleep 1; $node->safe_psql('postgres', "SELECT bool_and(status = 'in_doubt') FROM screenshot_task_request WHERE server = 'stopped'") eq 't' }), 'stopped: in doubt');
$node->safe_psql('postgres', 'ALTER SERVER stopped OPTIONS (SET request_timeout \'' . TIMEOUT . "s'); SELECT retry_screenshot_task_request(id) FROM screenshot_task_request WHERE server = 'stopped'");
ok($node->wait_for_log(qr/for server "stopped" are paused/), 'stopped: paused');
$node->safe_psql('postgres', insert_sql(server => 'running', stream_name => 'fault:error=InternalError,times=1#running'));
ok($node->wait_for_table("status = 'created'", where => "server = 'running'"), 'running: not kept waiting by them');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE server = 'stopped' AND status = 'in_doubt' AND next_attempt_at < now() + interval '61 s'"),
	40, 'stopped: all are still to be asked about, and soon');
$api->clear_orders;
$node->reload;
ok($node->wait_for_table("status = 'created'", where => "server = 'stopped'"), 'stopped: created when that is possible');
one_task_each('stopped', 40);

# Errors, and other roles
$node->safe_psql('postgres', 'SET ROLE app;' . insert_sql(server => 'hold', stream_name => \"'fault:error=InternalError#app ' || i", rows => 4));
ok($node->wait_for_table($left, where => "requested_by = 'app'"), "another role's requests are in doubt");
my @ids = map { $_->{id} } $node->table("requested_by = 'app'");
my ($created) = $node->table("status = 'created'");
for my $call ('cancel_screenshot_task_request(%d)', 'retry_screenshot_task_request(%d)', 'resolve_screenshot_task_request(%d, NULL)')
{
	fails_with("SET ROLE other; SELECT " . sprintf($call, $ids[0]), '42704', "screenshot task request $ids[0] does not exist");
	fails_with("SET ROLE app; SELECT " . sprintf($call, $created->{id}), '42704', "screenshot task request $created->{id} does not exist");
	fails_with("SELECT " . sprintf($call, 0), '42704', 'screenshot task request 0 does not exist');
	fails_with("SELECT " . $call =~ s/%d/NULL/r, '22004', 'request_id must not be null');
}
fails_with("SELECT retry_screenshot_task_request($created->{id})", '55000', "screenshot task request $created->{id} cannot be retried: it is created");
fails_with("SELECT resolve_screenshot_task_request($created->{id}, NULL)", '55000', "screenshot task request $created->{id} cannot be resolved: it is created");
fails_with("SET ROLE app; SELECT resolve_screenshot_task_request($ids[0], '')", '22023', 'task_id must not be empty');
is($node->safe_psql('postgres', "SELECT cancel_screenshot_task_request($created->{id})"), 'f', 'what is created cannot be cancelled');
is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE requested_by = 'app' AND $left"), 4, 'no error changed anything');
my ($status, $out, $err) = $node->psql('postgres', "SET ROLE app; SELECT cancel_screenshot_task_request($ids[0])");
is($out, 't', 'its role may cancel one in doubt');
like($err, qr/WARNING:  screenshot task request $ids[0] was in doubt when it was cancelled: its task may exist/, 'and is warned');
$node->safe_psql('postgres', "SET ROLE app; SELECT resolve_screenshot_task_request($ids[1], 'of app')");
$node->safe_psql('postgres', "BEGIN; SELECT resolve_screenshot_task_request($ids[2], NULL); ROLLBACK");
$node->safe_psql('postgres', "SELECT resolve_screenshot_task_request($ids[3], 'of owner')");
is_deeply([ map { [ @$_{qw(status task_id)} ] } $node->table("requested_by = 'app'") ],
	[ [ 'cancelled', undef ], [ 'created', 'of app' ], [ 'in_doubt', undef ], [ 'created', 'of owner' ] ],
	'its role and the owner may resolve; a rolled-back call does nothing');
is(sent("fault:error=InternalError#app $_"), 1, "app $_ was sent once") for 1 .. 4;

# describe_screenshot_tasks
my @starts = ('10 min', '2 d 23 h', '3 d 23 h', '5 d', '5 d 23 h 50 min');
$node->safe_psql('postgres', join '', map { insert_sql(stream_name => "listed $_", app_name => 'listed',
	start_time => \"date_trunc('second', now()) + interval '$_'", end_time => \"date_trunc('second', now()) + interval '$_' + interval '23 h'") } @starts);
ok($node->wait_for_table("status = 'created'", where => "app_name = 'listed'"), 'tasks of six days');
my $columns = 'task_id, stream_name, domain_name, app_name, start_time, end_time, template_id';
my $listed  = "SELECT $columns, stopped_at FROM describe_screenshot_tasks(now() - interval '3 d', now() + interval '8 d'%s) ORDER BY start_time";
is_deeply([ $node->rows(sprintf $listed, ", app_name => 'listed'") ],
	[ $node->rows("SELECT $columns, NULL::timestamptz AS stopped_at FROM screenshot_task_request WHERE app_name = 'listed' ORDER BY start_time") ],
	'a window of eleven days lists each task once');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT task_id) FROM describe_screenshot_tasks(now() - interval '40 d', now() + interval '8 d')"),
	join('|', ($api->ledger(event => 'create') + 0) x 2), 'one of forty-eight days lists all tasks once');
is(join(',', map { $_->{stream_name} } $node->rows(sprintf $listed, ", stream_name => 'listed 5 d', domain_name => '5000.live.push.com'")), 'listed 5 d', 'by stream and domain');
is($node->safe_psql('postgres', "SELECT count(*) FROM describe_screenshot_tasks(now() + interval '3 d', now() + interval '5 d', app_name => 'listed')"), 1,
	'what lies in the window in part is not listed');
$node->safe_psql('postgres', "SELECT stop_screenshot_task(task_id) FROM screenshot_task_request WHERE stream_name = 'listed 5 d'");
is($node->safe_psql('postgres', "SELECT string_agg(stream_name, ',') FROM describe_screenshot_tasks(now(), now() + interval '8 d', app_name => 'listed') WHERE stopped_at IS NOT NULL"),
	'listed 5 d', 'a task that was stopped says so');
fails_with('SELECT * FROM describe_screenshot_tasks(now(), now())', '22023', 'end_time must be later than start_time');
fails_with(q{SELECT * FROM describe_screenshot_tasks(now() - interval '91 d', now())}, '22023', 'start_time must be at most 90 days ago');
my $asked = () = $api->requests(action => 'DescribeScreenshotTask');
is($node->safe_psql('postgres', "SELECT count(*) > 0 FROM describe_screenshot_tasks(now(), '2999-01-01', app_name => 'listed')"), 't', 'a window may end whenever');
cmp_ok(scalar(() = $api->requests(action => 'DescribeScreenshotTask')) - $asked, '<', 10, 'and nothing is asked about when no task can be');
is($node->safe_psql('postgres', "SELECT count(*) FROM describe_screenshot_tasks(now() + interval '1 year', now() + interval '2 years')"), 0, 'nor if it begins then');
fails_with('SELECT * FROM describe_screenshot_tasks(NULL, now())', '22004', 'start_time must not be null');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# A server with a connection of its own, so that no fault is in the way of another
sub own_server
{
	my $name = 's' . ++$servers;

	$node->add_server($name, $api, request_timeout => TIMEOUT . 's', ca_file => $api->ca_file_copy);
	return $name;
}

# The requests of an action for a stream that arrived
sub requests
{
	my ($action, $stream) = @_;

	return $api->requests(action => $action . 'ScreenshotTask', stream_name => $stream);
}

sub traced { return map { $_->{headers}{'x-tc-traceid'} } requests(@_) }

sub sent { return scalar(requests('Create', $_[0])) }

sub first_asked { return (requests('Describe', $_[0]))[0]{time} }

# Send equal requests, with an equal number of orders or fewer, and see that each ends with a task of its own
sub equal
{
	my ($what, $rows, $faults, %task) = @_;

	# A server that is heard of is sent all of them at once.
	$node->safe_psql('postgres', insert_sql(server => 'twin', stream_name => 'a neighbour')) unless $api->ledger(stream_name => 'a neighbour');
	$node->wait_for_table("status = 'created'");
	$api->order(fault => $_, stream => $what, action => 'CreateScreenshotTask') for @$faults;
	$node->safe_psql('postgres', insert_sql(rows => $rows, server => 'twin', stream_name => $what, %task));
	ok($node->wait_for_table("status = 'created'"), "$what: all are created");
	one_task_each($what, $rows);
	is(sent($what), $rows + grep({ !/create/ } @$faults), "$what: only those that were not made are sent again");
	return;
}

# The TaskIds of a stream's rows are those in the ledger
sub one_task_each
{
	my ($stream, $n) = @_;
	my @tasks = sort map { $_->{task_id} } $api->ledger(stream_name => $stream, event => 'create');

	is(@tasks, $n, "$stream: as many tasks as requests");
	is_deeply([ sort map { $_->{task_id} } $node->table("stream_name = '$stream'") ], \@tasks, "$stream: the table is the ledger");
	return;
}

sub resolve
{
	my ($stream, $task_id) = @_;

	$node->safe_psql('postgres', "SELECT resolve_screenshot_task_request(id, $task_id) FROM screenshot_task_request WHERE stream_name = '$stream'");
	return;
}

sub fails_with
{
	my ($sql, $sqlstate, $message) = @_;
	my $error = $node->try($sql)->{error};

	is_deeply([ @$error{qw(sqlstate message)} ], [ $sqlstate, $message ], $sql);
	return;
}
