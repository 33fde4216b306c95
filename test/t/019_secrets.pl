# Secret keys, tokens and signatures are nowhere but in the user mapping: not in the server's log at any level,
# not in errors, not in what pg_stat_activity shows, not in the table.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my %secrets = (key => 'aSecretKeyNobodyMaySee', token => 'aTokenNobodyMaySee', wrong => 'aWrongKeyNobodyMaySee');
my $secret  = join '|', values %secrets, 'TC3a\w*NobodyMaySee', 'Signature=', 'TC3-HMAC-SHA256';
my @account = ('AKIDTOKEN', @secrets{qw(key token)});
my $api     = LiveApi->new('--account', join ':', @account);
my $closed  = LiveApi->new;

$closed->stop;
my $node = ScreenshotTaskTest->start_new('main',
	log_min_messages     => 'debug5',
	log_error_verbosity  => 'verbose',
	log_statement        => 'all',
	log_duration         => 'on',
	debug_print_parse    => 'on',
	debug_print_plan     => 'on',
	log_parser_stats     => 'on',
	client_min_messages  => 'debug5',
	log_lock_waits       => 'on');

# A mapping's statement is its author's own: it is kept out of the log, as one would.
{
	local $ENV{PGOPTIONS} = '-c log_statement=none -c log_min_messages=panic -c log_duration=off -c log_min_error_statement=panic'
	  . ' -c debug_print_parse=off -c debug_print_plan=off -c log_parser_stats=off -c client_min_messages=warning';

	my $patient = [ request_timeout => '2s', connect_timeout => '2s' ];
	$node->add_server('tencent_live', $api, account => \@account, @$patient);
	$node->add_server('wrong', $api, account => [ $account[0], $secrets{wrong}, $account[2] ]);
	$node->add_server('closed', $closed, account => \@account);
	$node->add_server('untrusted', $api, account => \@account, ca_file => $closed->ca_file);
	is(scalar($node->try("ALTER USER MAPPING FOR PUBLIC SERVER wrong OPTIONS (SET token '$secrets{token} ')")->{error}{sqlstate}),
		'22023', 'a token that cannot be one is refused');
}
unlike($node->log_text, qr/$secret/, 'so far nothing is in the log');

# Every kind of end, by call and by table
my @faults = map { "fault:$_" } qw(half close reset hang huge not-json bad-utf8 status=500 error=InternalError
  error=AuthFailure.SignatureFailure error=InvalidParameter error=LimitExceeded.MaximumRunningTask error=RequestLimitExceeded);
my @results;
my $watch = '';
for my $stream ('good', @faults)
{
	$node->safe_psql('postgres', insert_sql(stream_name => $stream));
	my $session = $node->begin("SET client_min_messages = notice; SET statement_timeout = '10s';" . call_sql(stream_name => $stream));
	$watch .= $node->safe_psql('postgres', 'SET client_min_messages = notice; SELECT * FROM pg_stat_activity, pg_stat_get_progress_info($$VACUUM$$) FULL JOIN pg_locks USING (pid)')
	  for 1 .. 2;
	push @results, $session->end;
}
for my $server (qw(wrong closed untrusted))
{
	$node->safe_psql('postgres', insert_sql(server => $server, stream_name => 'x'));
	push @results, $node->try(call_sql(server => $server));
}
