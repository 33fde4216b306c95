# Credentials of roles, from the Security Token Service: of a pod, by the token of its cluster, and of a role that is
# assumed with whatever credentials a server otherwise has.  They are fetched once by each process, renewed before they
# end, and seen nowhere; where they cannot be had, the role that needs them waits, and says why.
#
# Each set that the stand-in hands out has a secret_id of its own, so that what arrives at the API tells which set it was
# signed with.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $directory  = PostgreSQL::Test::Utils::tempdir('roles');
my $token_file = "$directory/token";
my $role       = LiveApi::ROLE_ARN;
my $secret     = qr/NobodyMaySee/;
my @env        = ('AKIDENV', 'envKeyNobodyMaySee');
my @other      = ('AKIDOTHER', 'aKeyInAMapping');
my $api        = LiveApi->new('--metadata', map { ('--account', join ':', @$_) } \@LiveApi::account, \@env, \@other);
my $peer       = $api->endpoint =~ s{https://}{}r;

@ENV{qw(TENCENTCLOUD_SECRET_ID TENCENTCLOUD_SECRET_KEY)} = @env;
$ENV{TENCENTCLOUD_CREDENTIALS_FILE} = "$directory/credentials";
@ENV{qw(TKE_REGION TKE_PROVIDER_ID TKE_WEB_IDENTITY_TOKEN_FILE TKE_ROLE_ARN)} = ('ap-shanghai', 'tke-provider', $token_file, $role);
write_file("$directory/credentials", "[default]\nsecret_id=$other[0]\nsecret_key=$other[1]\n");
my $token = 'eyJhbGciOi.webIdentityNobodyMaySee.' . 'x' x 900;
write_file($token_file, "$token\n");
$api->set_web_identity_token($token);

my $node = ScreenshotTaskTest->start_new('main', log_statement => 'all');
# Not from the start: at this level PostgreSQL begins with its whole environment.
$node->set(log_min_messages => 'debug5');
my %options = (request_timeout => '10s', sts_endpoint => $api->endpoint);
my %machine = (%options, account => undef, metadata_endpoint => $api->metadata_endpoint);
$node->add_server('tke', $api, %machine, credentials => 'tke');
$node->add_server('assumed_mapping', $api, %options, role_arn => $role, role_session_name => 'me@here', role_duration => '1h');
$node->add_server('assumed_environment', $api, %machine, credentials => 'environment', role_arn => $role);
$node->add_server('assumed_file', $api, %machine, credentials => 'file', role_arn => $role);
$node->add_server('assumed_role', $api, %machine, credentials => 'role', role_arn => $role);
$node->add_server('assumed_tke', $api, %machine, credentials => 'tke', role_arn => $role);

# ------------------------------------------------------------------------------------------ Each way

# What signs the request that assumes the role, and how many sets are fetched for it
my %ways = (
	tke                 => [ undef, 'AssumeRoleWithWebIdentity' ],
	assumed_mapping     => [ qr/^AKIDEXAMPLE$/, 'AssumeRole' ],
	assumed_environment => [ qr/^AKIDENV$/, 'AssumeRole' ],
	assumed_file        => [ qr/^AKIDOTHER$/, 'AssumeRole' ],
	assumed_role        => [ qr/^AKIDROLE\d+$/, 'AssumeRole' ],
	assumed_tke         => [ qr/^AKIDSTS\d+$/, 'AssumeRoleWithWebIdentity', 'AssumeRole' ]);
for my $server (sort keys %ways)
{
	my ($signer, @actions) = @{ $ways{$server} };
	my $before = $api->requests(outcome => 'Credentials');

	is($node->try(call_sql(server => $server, stream_name => "call $server") x 3)->{error}, undef, "$server: calls");
	my @asked = ($api->requests(outcome => 'Credentials'))[ $before .. $api->requests(outcome => 'Credentials') - 1 ];
	# The worker has the set of the pod by then, where another server has it as well.
	is_deeply([ map { $_->{action} } @asked ], \@actions, "$server: a session asks once");
	like($asked[-1]{secret_id}, $signer, "$server: with the credentials of the server") if defined $signer;
	my %used = map { $_->{secret_id} => 1 } $api->requests(stream_name => "call $server");
	is_deeply([ map { /^AKIDSTS\d+$/ ? 'of STS' : $_ } keys %used ], ['of STS'], "$server: and sends with what it got");

	$node->safe_psql('postgres', insert_sql(server => $server, stream_name => "row $server", rows => 3));
	ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = '$server'"), "$server: the worker, too");
	my %sent = map { $_->{secret_id} => 1 } $api->requests(stream_name => "row $server", outcome => 'TaskId');
	is_deeply([ map { /^AKIDSTS\d+$/ ? 'of STS' : $_ } keys %sent ], ['of STS'], "$server: with one set for all rows");
	my $preview = $node->try(call_sql(server => $server) =~ s/create_/preview_/r);
	is($preview->{error}, undef, "$server: a preview");
	unlike(join("\n", map { @$_ } @{ $preview->{rows} }), $secret, "$server: which shows no secret");
}
my ($pod) = $api->requests(action => 'AssumeRoleWithWebIdentity');
is_deeply([ @{ $pod->{headers} }{qw(authorization x-tc-version x-tc-region x-tc-token)} ], [ 'SKIP', '2018-08-13', 'ap-shanghai', undef ], 'a pod asks unsigned, in its region');
my ($assumed) = $api->requests(action => 'AssumeRole');
like($assumed->{headers}{authorization}, qr{/sts/tc3_request, SignedHeaders=content-type;host;x-tc-action, }, 'AssumeRole is signed for that service');
is($assumed->{headers}{'x-tc-region'}, 'ap-guangzhou', 'in the region that it is offered in');
is($api->complaints, '', 'the stand-in has nothing to complain of');

# ----------------------------------------------------------------------- Roles of the database, apart

$node->safe_psql('postgres', q{CREATE ROLE app LOGIN; CREATE ROLE rival LOGIN; GRANT USAGE ON FOREIGN SERVER assumed_mapping, tke TO app, rival;
	GRANT INSERT ON screenshot_task_request TO app, rival});
$node->safe_psql('postgres', "CREATE USER MAPPING FOR app SERVER assumed_mapping OPTIONS (secret_id '$other[0]', secret_key '$other[1]')");
$api->set_sts(untrusted => [ $other[0] ]);
my $offset = $node->log_size;
for my $who (qw(app rival))
{
	is($node->try(insert_sql(server => 'assumed_mapping', stream_name => "of $who"), user => $who)->{error}, undef, "$who inserts");
}
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'of rival'"), 'the role that the mapping of one may not assume keeps no other waiting');
ok(wait_until(sub { $node->log_text($offset) =~ /of role app for server "assumed_mapping" are paused for \d+ s\n.*DETAIL:  could not get the credentials of role "\Q$role\E": "\Q$peer\E" refused it: UnauthorizedOperation \(RequestId [-0-9a-f]{36}\)\n.*HINT:  Check the server options "role_arn"/ }),
	'that role alone is paused, with the reason');
my $error = fails($node->try(call_sql(server => 'assumed_mapping'), user => 'app'), '28000', qr/^could not get the credentials of role "\Q$role\E": "\Q$peer\E" refused it: UnauthorizedOperation \(RequestId [-0-9a-f]{36}\)$/, 'a call');
like($error->{hint}, qr/^Check the server options "role_arn" and "sts_endpoint", that the role trusts the account/, 'a call: what to do');
is($api->requests(stream_name => 'of app'), 0, 'nothing was sent for it');
$api->set_sts;
$node->reload;
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'of app'"), 'once the role trusts it, nothing is lost');
is($api->ledger(stream_name => 'of app'), 1, 'nor done twice');

# A set goes with the mapping that it was got by.
my $caller = Caller->new($node, 'rival');
is($caller->call('assumed_mapping'), '', 'a session has a set');
my $mapping = account_options(@LiveApi::account);
$node->safe_psql('postgres', 'DROP USER MAPPING FOR PUBLIC SERVER assumed_mapping');
like($caller->call('assumed_mapping'), qr/role rival has no user mapping for server "assumed_mapping"/, 'which it cannot use without the mapping');
$node->safe_psql('postgres', "CREATE USER MAPPING FOR PUBLIC SERVER assumed_mapping OPTIONS ($mapping)");
is($caller->call('assumed_mapping'), '', 'and can again');
$caller->end;

# -------------------------------------------------------------------------------------- TokenFailure

for my $server ('assumed_mapping', 'tke')
{
	for my $way ('call', 'row')
	{
		my $sql = $way eq 'call' ? \&call_sql : \&insert_sql;
		my $stream = "token $way $server";

		$api->order(fault => 'error=AuthFailure.TokenFailure', stream => $stream, times => 1);
		is($node->try($sql->(server => $server, stream_name => $stream))->{error}, undef, "$stream: refused once");
		ok($api->wait_for_requests(1, stream_name => $stream, outcome => 'TaskId'), "$stream: it is sent once more");
		my @ids = map { $_->{secret_id} } $api->requests(stream_name => $stream);
		is(@ids == 2 && $ids[0] ne $ids[1], 1, "$stream: with another set");
		is($api->ledger(stream_name => $stream), 1, "$stream: it was done once");
	}
}
ok($node->wait_for_table("status = 'created' AND attempts = 1"), 'without a pause');

# What the role is assumed with may have been revoked itself.
$api->order(fault => 'error=AuthFailure.TokenFailure', action => 'AssumeRole', times => 1);
$caller = Caller->new($node);
my $sets = $api->metadata_requests(asked => 'set');
like($caller->call('assumed_role'), qr/refused it: AuthFailure\.TokenFailure/, 'STS refuses the token of the instance role');
is($caller->call('assumed_role'), '', 'the next call');
is($api->metadata_requests(asked => 'set') - $sets, 2, 'has fetched another one');
$caller->end;

# ------------------------------------------------------------------------------------------ Renewal

# 300 s before a set ends, or when a tenth of its life is left, it is renewed, by a session and by the worker; but fetches
# are 10 s apart.
my @renewed;
for my $way ('session', 'worker')
{
	my $sts = LiveApi->new;
	my $session = Caller->new($node);
	my $use = sub { $way eq 'session' ? is_silent($session->call("renewed_$way")) : $node->safe_psql('postgres', insert_sql(server => "renewed_$way")) };

	push @renewed, $sts;
	$sts->set_sts(lives => [ 305, 305, 36000 ]);
	$node->add_server("renewed_$way", $sts, request_timeout => '10s', role_arn => $role, sts_endpoint => $sts->endpoint);
	for my $id ('AKIDSTS2', 'AKIDSTS3')
	{
		ok(wait_until(sub { $use->(); $sts->requests(secret_id => $id) > 0 }), "renewal by the $way: $id");
	}
	$use->() for 1 .. 5;
	ok($node->wait_for_table("status = 'created' AND attempts = 1"), "renewal by the $way: no row fails");
	is($sts->requests(action => 'AssumeRole'), 3, "renewal by the $way: none too many");
	cmp_ok(least_distance($sts), '>', 9.5, "renewal by the $way: nor too soon");
	is($sts->requests(action => 'CreateScreenshotTask', outcome => 'TaskId'), scalar $sts->requests(action => 'CreateScreenshotTask'), "renewal by the $way: the API refuses none");
	$session->end;
}
ok($node->log_text !~ qr/could not refresh/, 'renewal: nothing to complain of');

# If it fails, what there is goes on to be used, and the log says why.
my $poor = LiveApi->new;
my $keeper = Caller->new($node);
my $place = $poor->endpoint =~ s{https://}{}r;
$poor->set_sts(lives => [60]);
$poor->set_web_identity_token($token);
$node->add_server('poor', $poor, %machine, credentials => 'tke', sts_endpoint => $poor->endpoint);
is($keeper->call('poor'), '', 'a set that ends soon');
$poor->order(fault => 'error=InternalError', action => 'AssumeRoleWithWebIdentity', times => 0);
ok(wait_until(sub { is_silent($keeper->call('poor')); $node->log_text =~ /could not refresh the credentials of role "\Q$role\E": "\Q$place\E" refused it: InternalError \(RequestId [-0-9a-f]{36}\)\n.*DETAIL:  Current credentials expire in \d+ s\./ }), 'is used while STS refuses the next one, which is logged');
rename $token_file, "$token_file.away" or die "could not rename: $!";
ok(wait_until(sub { is_silent($keeper->call('poor')); $node->log_text =~ /could not refresh the credentials of role "\Q$role\E": could not open web identity token file "\Q$token_file\E": No such file or directory\n.*DETAIL:  Current/ }), 'or while there is no token');
rename "$token_file.away", $token_file or die "could not rename: $!";
cmp_ok(least_distance($poor), '>', 9.5, 'nor is STS asked too often');
$keeper->end;

# ---------------------------------------------------------------------------------------- The token

# It is read anew each time.
my $before = $api->requests(action => 'AssumeRoleWithWebIdentity', outcome => 'Credentials');
write_file($token_file, 'aNewTokenNobodyMaySee');
fails($node->try(call_sql(server => 'tke')), '28000', qr/"\Q$peer\E" refused it: InvalidParameter\.WebIdentityTokenError \(RequestId/, 'a token that STS does not take');
$api->set_web_identity_token('aNewTokenNobodyMaySee');
is($node->try(call_sql(server => 'tke'))->{error}, undef, 'a token that was replaced');
is($api->requests(action => 'AssumeRoleWithWebIdentity', outcome => 'Credentials') - $before, 1, 'is used');

my $file = qr/web identity token file "\Q$token_file\E"/;
for my $fault (
	[ sub { unlink $token_file }, qr/^could not open $file: No such file or directory$/, 'is not there' ],
	[ sub { mkdir $token_file }, qr/^$file is not a regular file$/, 'is a directory', sub { rmdir $token_file } ],
	[ sub { system('mkfifo', $token_file) }, qr/^$file is not a regular file$/, 'is a pipe', sub { unlink $token_file } ],
	[ sub { write_file($token_file, '') }, qr/^$file is empty$/, 'is empty' ],
	[ sub { write_file($token_file, " \n") }, qr/^$file is empty$/, 'is white space' ],
	[ sub { write_file($token_file, 'x' x 1048576) }, qr/^$file is too large$/, 'has 1 MB' ],
	[ sub { write_file($token_file, "NobodyMaySee\nNobodyMaySee") }, qr/^$file does not contain a token$/, 'has two lines' ],
	[ sub { write_file($token_file, "NobodyMaySee\0") }, qr/^$file does not contain a token$/, 'has a NUL' ],
	[ sub { write_file($token_file, "\xff\xfe") }, qr/^$file does not contain a token$/, 'is binary' ])
{
	my ($break, $message, $what, $mend) = @$fault;
	my $asked = $api->requests(action => 'AssumeRoleWithWebIdentity');

	$break->();
	unlike(join("\n", map { $_ // '' } %{ fails($node->try(call_sql(server => 'tke')), '28000', $message, "the token $what") }), $secret, "the token $what: which shows no secret");
	is($api->requests(action => 'AssumeRoleWithWebIdentity'), $asked, "the token $what: STS is not asked");
	$mend->() if $mend;
}
# A row waits until the token is mended.
$node->add_server('tke_again', $api, %machine, credentials => 'tke', role_session_name => 'again');
$node->safe_psql('postgres', insert_sql(server => 'tke_again', stream_name => 'without a token'));
ok(wait_until(sub { $node->log_text =~ /of role \w+ for server "tke_again" are paused for \d+ s\n.*DETAIL:  $file does not contain a token\n.*HINT:  Check the volume that environment variable TKE_WEB_IDENTITY_TOKEN_FILE points to\./ }), 'the worker pauses, and says why');
write_file($token_file, 'aNewTokenNobodyMaySee');
$node->reload;
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'tke_again'"), 'and goes on once it is mended');

# One that is replaced all the time is always whole.
my $writer = fork // die "could not fork: $!";
if ($writer == 0)
{
	write_file($token_file, "aNewTokenNobodyMaySee" . ("\n" x int rand 9000)) while 1;
}
is_deeply([ map { $node->try(call_sql(server => 'tke'))->{error} } 1 .. 10 ], [ (undef) x 10 ], 'a token that is replaced all the time');
kill 'KILL', $writer;
waitpid $writer, 0;
# One that is written to all the time is whole, or refused as one that changes.
$writer = fork // die "could not fork: $!";
if ($writer == 0)
{
	for (;;)
	{
		open my $handle, '>', $token_file or die "could not open: $!";
		$handle->autoflush;
		print $handle $_ for 'aNewToken', 'Nobody', 'MaySee';
		close $handle;
	}
}
my %said = map { (($_->{error}{message} // 'done') => 1) } map { $node->try(call_sql(server => 'tke')) } 1 .. 10;
kill 'KILL', $writer;
waitpid $writer, 0;
is_deeply([ grep { !/^done$|^$file (?:changed while it was being read|is empty)$|refused it: InvalidParameter\.WebIdentityTokenError/ } keys %said ], [], 'a token that is written to all the time');
write_file($token_file, 'aNewTokenNobodyMaySee');

# -------------------------------------------------------------------------------------- Faults of STS

my $could_not = qr/could not get the credentials of role "\Q$role\E"/;
my @faults = (
	(map { [ { order => $_->[0] }, $_->[1], $_->[0] ] }
		  [ 'close', qr/got no complete answer from "\Q$peer\E": / ], [ 'reset', qr/got no complete answer from "\Q$peer\E": / ],
		  [ 'half', qr/got no complete answer from "\Q$peer\E": / ], [ 'hang', qr/got no complete answer from "\Q$peer\E": / ],
		  [ 'status=500', qr/"\Q$peer\E" returned HTTP status 500$/ ], [ 'redirect=http://127.0.0.1:1/', qr/"\Q$peer\E" returned HTTP status 302$/ ],
		  [ 'not-json', qr/"\Q$peer\E" did not return a JSON object$/ ], [ 'empty', qr/"\Q$peer\E" did not return a JSON object$/ ],
		  [ 'bad-utf8', qr/"\Q$peer\E" did not return a JSON object$/ ], [ 'huge', qr/it is longer than 64 kB$/ ],
		  [ 'no-task-id', qr/"\Q$peer\E" returned no TmpSecretId$/ ],
		  [ 'error=InternalError', qr/refused it: InternalError \(RequestId [-0-9a-f]{36}\)$/ ],
		  [ 'error=Nobody-May-See', qr/"\Q$peer\E" returned an Error without a valid Code$/ ],
		  [ 'error=AuthFailure.SecretIdNotFound', qr/refused it: AuthFailure\.SecretIdNotFound \(RequestId/ ]),
	(map { [ { answer => $_->[0] }, qr/"\Q$peer\E" $_->[1]$/, join ' ', map { $_ // 'null' } %{ $_->[0] } ] }
		  [ { 'Credentials.Token' => undef }, 'returned no Token' ], [ { 'Credentials.TmpSecretKey' => undef }, 'returned no TmpSecretKey' ],
		  [ { 'ExpiredTime' => undef }, 'returned no ExpiredTime' ], [ { 'Credentials.Token' => "NobodyMaySee\n" }, 'returned an invalid Token' ],
		  [ { 'Credentials.TmpSecretId' => 'a/b' }, 'returned an invalid TmpSecretId' ], [ { 'Credentials.TmpSecretKey' => 'NobodyMaySee é' }, 'returned an invalid TmpSecretKey' ],
		  [ { 'ExpiredTime' => 'soon' }, 'did not return a JSON object' ], [ { 'Credentials' => 'NobodyMaySee' }, 'returned no TmpSecretId' ],
		  [ { 'Credentials.Token' => [ 'NobodyMaySee' ] }, 'did not return a JSON object' ], [ { 'ExpiredTime' => 1 }, "returned credentials that have expired by this machine's clock" ],
		  [ { 'Error' => { Code => 'UnauthorizedOperation' } }, 'refused it: UnauthorizedOperation \(RequestId [-0-9a-f]{36}\)' ]));
my $sent = $api->requests(action => 'CreateScreenshotTask');
for my $fault (@faults)
{
	my ($orders, $problem, $what) = @$fault;

	$what =~ s/[^ -~]/?/g;
	$api->order(fault => $orders->{order}, action => 'AssumeRole') if $orders->{order};
	$api->set_sts(answer => $orders->{answer}) if $orders->{answer};
	my $failure = fails($node->try(call_sql(server => 'assumed_mapping')), '28000', qr/^$could_not: .*$problem/, "STS: $what");
	unlike(join("\n", map { $_ // '' } %$failure), $secret, "STS: $what: which shows no secret");
	ok(defined $failure->{hint}, "STS: $what: what to do");
	$api->set_sts;
}
is($api->requests(action => 'CreateScreenshotTask'), $sent, 'nothing was sent to the API');
$node->add_server('unreachable', $api, %options, role_arn => $role, sts_endpoint => 'https://127.0.0.1:1');
fails($node->try(call_sql(server => 'unreachable')), '28000', qr/^$could_not: could not connect to "127\.0\.0\.1:1": /, 'STS that is not there');

# One that hangs holds up nobody else.
$api->order(fault => 'hang', action => 'AssumeRole', times => 0);
$node->add_server('hanging', $api, %options, role_arn => $role, role_session_name => 'hanging');
my $cancelled = fails($node->try("SET statement_timeout = '300ms'; " . call_sql(server => 'hanging')), '57014', qr/^canceling statement due to statement timeout$/, 'a call that waits can be cancelled');
is($cancelled->{context}, 'CreateScreenshotTask on server "hanging": nothing had been sent', 'it says what was done');
$offset = $node->log_size;
$node->safe_psql('postgres', insert_sql(server => 'hanging', stream_name => 'held') . insert_sql(server => 'tke', stream_name => 'meanwhile', rows => 30));
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'meanwhile'"), 'another server goes on');
ok(wait_until(sub { $node->log_text($offset) =~ /for server "hanging" are paused for \d+ s\n.*DETAIL:  $could_not: got no complete answer from/ }), 'the role waits, and it is said why');
$api->clear_orders;
$node->reload;
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "stream_name = 'held'"), 'and nothing is lost');
is($api->ledger(stream_name => 'held'), 1, 'nor done twice');

# ---------------------------------------------------------------------------------- Who may, and what

$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN DATA WRAPPER tencent_cloud TO app');
is($node->try("CREATE SERVER mine FOREIGN DATA WRAPPER tencent_cloud OPTIONS (role_arn '$role', role_session_name 'me', role_duration '10min', sts_endpoint 'https://sts.intl.tencentcloudapi.com')", user => 'app')->{error},
	undef, 'anybody may assume a role of the vendor, with credentials of a user mapping');
for my $option ("credentials 'tke'", "sts_endpoint 'https://sts.example.com'", "sts_endpoint 'http://127.0.0.1:1'")
{
	fails($node->try("CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS ($option)", user => 'app'), '42501', qr/^permission denied to set options of a server/, "but not have $option");
}
$node->safe_psql('postgres', 'ALTER SERVER tke OWNER TO app');
fails($node->try(call_sql(server => 'tke')), '42501', qr/^server "tke" cannot be used with option "credentials" set to "tke" because its owner is not a superuser$/, 'nor own a server with them');
$node->safe_psql('postgres', 'ALTER SERVER tke OWNER TO postgres; ALTER SERVER assumed_mapping OWNER TO app');
fails($node->try(call_sql(server => 'assumed_mapping')), '42501', qr/because its owner is not a superuser$/, 'nor one with another STS');

# ------------------------------------------------------------------------------------ Seen by nobody

my $idle = $node->begin(join('', map { call_sql(server => $_) } qw(tke assumed_environment assumed_tke)) . "SELECT pg_sleep(600) AS idle");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"), 'a session that has used them');
my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'");
unlike($node->safe_psql('postgres', 'SELECT * FROM pg_stat_activity'), $secret, 'not in pg_stat_activity');
$node->safe_psql('postgres', "CHECKPOINT; SELECT pg_terminate_backend($pid)");
$idle->end;
is(system('grep', '-rqs', 'NobodyMaySee', $node->data_dir) >> 8, 1, 'not in the data directory');
ok($node->log_text !~ $secret, 'not in the log');
is($_->complaints, '', 'the stand-in has nothing to complain of') for $api, $poor, @renewed;

# -------------------------------------------------------------------------------- Without a variable

for my $variable (qw(TKE_REGION TKE_PROVIDER_ID TKE_WEB_IDENTITY_TOKEN_FILE TKE_ROLE_ARN))
{
	local $ENV{$variable} = '';

	$node->restart;
	my $failure = fails($node->try(call_sql(server => 'tke')), '28000', qr/^environment variable $variable is not set$/, "without $variable");
	like($failure->{hint}, qr/^Give the pod's service account a role/, "without $variable: what to do");
}

done_testing();

# ------------------------------------------------------------------------------------------- Helpers

sub account_options { return ScreenshotTaskTest::account_options(@_) }

# Count what a call says, of which there is to be nothing.
sub is_silent
{
	my ($said) = @_;

	is($said, '', 'a call says nothing') if $said ne '';
	return;
}

# The shortest time between two requests for a set, in seconds
sub least_distance
{
	my ($service) = @_;
	my @times = map { $_->{time} } grep { $_->{action} =~ /^AssumeRole/ } $service->requests;

	return (sort { $a <=> $b } map { $times[$_] - $times[ $_ - 1 ] } 1 .. $#times)[0];
}

# Replace a file, as a whole.
sub write_file
{
	my ($path, $text) = @_;

	umask 0077;
	open my $handle, '>', "$path.new" or die "could not open $path.new: $!";
	print $handle $text;
	close $handle or die "could not write $path.new: $!";
	rename "$path.new", $path or die "could not rename $path.new: $!";
	return;
}

# Returns the error.
sub fails
{
	my ($outcome, $sqlstate, $message, $what) = @_;
	my $failure = $outcome->{error} // {};

	is($failure->{sqlstate}, $sqlstate, "$what: SQLSTATE");
	like($failure->{message} // '', $message, "$what: message");
	return $failure;
}

# A session that stays, and keeps what it has fetched
package Caller;

sub new
{
	my ($class, $server, $user) = @_;
	my $self = bless { in => '', out => '' }, $class;

	$self->{psql} = IPC::Run::start([ 'psql', '-XAtq', '-d', $server->connstr('postgres') . ($user ? " user=$user" : '') ], '<', \$self->{in}, '>', \$self->{out}, '2>&1');
	return $self;
}

# Make a call by a server; returns what is wrong.
sub call
{
	my ($self, $server) = @_;
	my $call = ScreenshotTaskTest::call_sql(server => $server) =~ s/^SELECT \* FROM (.*);\n/$1/r;

	$self->{in} = "DO \$\$ BEGIN PERFORM $call; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM; END \$\$;\n\\echo done\n";
	$self->{psql}->pump until $self->{out} =~ s/(.*)done\n//s;
	return $1;
}

sub end
{
	my ($self) = @_;

	$self->{in} = "\\q\n";
	$self->{psql}->finish;
	return;
}
