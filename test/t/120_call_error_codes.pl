# What the API refuses, by a call: each error code has its SQLSTATE, the code and the RequestId are in
# the error's detail, and the session goes on.  A token that is refused may have been replaced: asked twice.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

# Of each class: message, hint, and the codes by SQLSTATE
my $call    = 'CreateScreenshotTask';
my @classes = (
	[   qq(server "tencent_live" refused $call: an account limit has been reached),
		'Nothing was done; the call can be repeated once other tasks have ended.',
		'53400' => [
			qw(LimitExceeded LimitExceeded.MaximumRunningTask LimitExceeded.Other ResourceInsufficient ResourceInsufficient.Any
			  ResourcesSoldOut ResourceUnavailable.Any ResourceInUse)
		]
	],
	[   qq(server "tencent_live" refused $call: an account limit has been reached),
		'Nothing was done; the call can be repeated once the account may create more tasks.',
		'53400' => [qw(LimitExceeded.MaximumTask)]
	],
	[   qq(server "tencent_live" refused the credentials for $call),
		"Check the user mapping's secret_id, secret_key and token, what the account may do, and this machine's clock.",
		'28000' => [qw(AuthFailure AuthFailure.Other)]
	],
	(   map { [ qq(server "tencent_live" refused the credentials for $call), $_->[0], '28000' => [ @$_[ 1 .. $#$_ ] ] ] }
		  [ 'The secret_id is wrong, was deleted or disabled in the console, or belongs to an account of the other edition than the server option "endpoint".', 'AuthFailure.SecretIdNotFound' ],
		[ 'The secret_id is not that of an API key.', 'AuthFailure.InvalidSecretId' ],
		[ 'The secret_key probably does not belong to the secret_id.', 'AuthFailure.SignatureFailure' ],
		[ "Set this machine's clock, which is off by more than five minutes.", 'AuthFailure.SignatureExpire' ],
		[ 'The token has expired, does not belong to the secret_id, or is missing.  Temporary credentials consist of all three.', 'AuthFailure.TokenFailure' ],
		[ 'The account requires a second factor for this, which a request cannot supply.  Use the key of an account that does not.', 'AuthFailure.MFAFailure' ],
		[ 'The API could not parse the Authorization header.  Check whether a proxy changes it.', 'AuthFailure.InvalidAuthorization' ]),
	[   qq(server "tencent_live" refused the account permission for $call),
		'Check in the console what the account may do with this domain and with the Live service.',
		'28000' => [qw(UnauthorizedOperation UnauthorizedOperation.CamNoAuth AuthFailure.UnauthorizedOperation)]
	],
	[   qq(server "tencent_live" refused $call: the account's service is not active),
		'Check the state of the Live service in the console.',
		'55000' => [
			qw(UnsupportedOperation.NotLVBCodeMode FailedOperation.JiFeiNoEnoughFund FailedOperation.NoRealNameAuth
			  FailedOperation.SdkNoPackage FailedOperation.AuthError OperationDenied OperationDenied.Any),
			map { "ResourceNotFound.$_" } qw(ForbidService FreezeService StopService UserDisableService InvalidUser UserNotExist)
		]
	],
	[   qq(server "tencent_live" does not offer $call to this client),
		'Check the server options "endpoint" and "region".',
		'0A000' => [qw(InvalidAction NoSuchProduct NoSuchVersion ActionOffline UnsupportedRegion UnsupportedProtocol MissingParameter UnknownParameter)]
	],
	[   qq(server "tencent_live" refused $call: the account does not allow this machine's address),
		q(Check the account's address lists in the console.),
		'55000' => [qw(IpInBlacklist IpNotInWhitelist)]
	],
	[   qq(server "tencent_live" refused the parameters of $call),
		undef,
		'22023' => [
			qw(InvalidParameter InvalidParameter.TooLong InvalidParameterValue
			  InvalidRequest RequestSizeLimitExceeded ResourceNotFound ResourceNotFound.Other DryRunOperation)
		]
	],
	[   qq(server "tencent_live" does not support this use of $call),
		undef,
		'0A000' => [qw(UnsupportedOperation UnsupportedOperation.Other)]
	],
	[   qq(it is unknown whether server "tencent_live" carried out $call),
		'Check whether it was carried out before repeating the call.',
		'08007' => [
			qw(InternalError InternalError.GetConfigError InternalError.NetworkError FailedOperation
			  FailedOperation.Other ServiceUnavailable ResponseSizeLimitExceeded NobodyKnows.ThisCode)
		]
	]);

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');
$node->add_server('tencent_live', $api);

for my $class (@classes)
{
	my ($message, $hint, @by_sqlstate) = @$class;

	while (my ($sqlstate, $codes) = splice @by_sqlstate, 0, 2)
	{
		check_code($_, $sqlstate, $message, $hint) for @$codes;
	}
}

# A call that is throttled waits for another permit, and tries again until its own time is over.  Nothing was done.
for my $code (qw(RequestLimitExceeded RequestLimitExceeded.UinLimitExceeded RequestLimitExceeded.GlobalRegionUinLimitExceeded
	RequestLimitExceeded.IPLimitExceeded LimitExceeded.RateLimitExceeded))
{
	my $stream = "fault:error=$code,times=1";
	my $result = $node->try(call_sql(stream_name => $stream));

	is($result->{error}, undef, "$code: the call succeeds");
	my ($refused, $made, @more) = $api->requests(stream_name => $stream);
	is_deeply([ $refused->{outcome}, $made->{outcome}, scalar @more ], [ $code, 'TaskId', 0 ], "$code: it was sent once more");
}
my $throttled = 'fault:error=RequestLimitExceeded#for ever';
my $in_vain   = $node->begin('SET statement_timeout = \'8s\';' . call_sql(stream_name => $throttled));
ok($api->wait_for_requests(2, stream_name => $throttled), 'throttled again and again: it tries again and again');
my $error = $in_vain->end->{error};
is_deeply([ @$error{qw(sqlstate message context)} ], [ '57014', 'canceling statement due to statement timeout',
	'CreateScreenshotTask on server "tencent_live": the request had been refused by the rate limit, and nothing was done' ], 'throttled: until statement_timeout');
is(scalar $api->ledger(stream_name => $throttled), 0, 'throttled: nothing was done');

# An ambiguous answer may hide a task
my $stream = 'fault:error=InternalError,create';
is($node->try(call_sql(stream_name => $stream))->{error}{sqlstate}, '08007', 'InternalError, though the task was made');
is(scalar $api->ledger(stream_name => $stream), 1, 'the task was made');

# stop and delete have errors of the same kind
for my $function (qw(stop delete))
{
	my $error = $node->try("SELECT ${function}_screenshot_task('nothing')")->{error};

	is($error->{sqlstate}, '22023', "${function}_screenshot_task() of no task");
	like($error->{detail}, qr/^InvalidParameter: TaskId does not exist \(RequestId /, 'says what the API said');
}
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

sub check_code
{
	my ($code, $sqlstate, $message, $hint) = @_;
	my $stream  = "fault:error=$code";
	my $result  = $node->try(call_sql(stream_name => $stream) . call_sql(stream_name => "after $code"));
	my @refused = $api->requests(stream_name => $stream);
	my $error   = $result->{error};

	my $times   = $code eq 'AuthFailure.TokenFailure' ? 2 : 1;

	is(@refused, $times, "$code: times asked");
	my @trace_ids = $api->trace_ids(stream_name => $stream);
	is(keys %{ { map { ($_ => 1) } @trace_ids } }, $times, "$code: each time with a new trace id");
	is_deeply(
		{ map { $_ => $error->{$_} } qw(severity sqlstate message detail hint) },
		{   severity => 'ERROR',
			sqlstate => $sqlstate,
			message  => $message,
			detail   => "$code: ordered by a test (RequestId $refused[-1]{request_id}, TraceId $trace_ids[-1])",
			hint     => $hint
		},
		"$code: error");
	is_deeply([ $api->ledger(stream_name => $stream) ], [], "$code: no task");
	is_deeply([ map { $_->[0] } @{ $result->{rows} } ],
		[ map { $_->{task_id} } $api->ledger(stream_name => "after $code") ], "$code: the next call succeeds");
	return;
}
