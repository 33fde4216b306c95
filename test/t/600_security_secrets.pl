# Secret keys, tokens and signatures are nowhere but in the user mapping: not in the server's log at any level,
# not in what a client is told, not in what pg_stat_activity shows, not in the settings, not in the table.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my %secrets = (key => 'aSecretKeyNobodyMaySee', token => 'aTokenNobodyMaySee', wrong => 'aWrongKeyNobodyMaySee', other => 'anotherKeyNobodyMaySee');
my $secret  = join '|', values %secrets, 'Signature=', 'TC3-HMAC-SHA256';
my @account = ('AKIDTOKEN', @secrets{qw(key token)});
my @wrong   = ('AKIDTOKEN', @secrets{qw(wrong token)});
my @other   = ('AKIDOTHER', @secrets{qw(other token)});
my $api     = LiveApi->new(map { ('--account', join ':', @$_) } \@account, \@other);
my $closed  = LiveApi->new;

$closed->stop;
my $node = ScreenshotTaskTest->start_new('main',
	log_min_messages    => 'debug5',
	log_error_verbosity => 'verbose',
	log_statement       => 'all',
	log_duration        => 'on',
	log_parser_stats    => 'on',
	debug_print_parse   => 'on',
	debug_print_plan    => 'on');

# A server for each kind of end, and an account for what is throttled, so that none of them is in another's way
my @faults = map { "fault:$_" } qw(half close reset hang huge not-json bad-utf8 status=500 error=InternalError
  error=AuthFailure.SignatureFailure error=InvalidParameter error=LimitExceeded.MaximumRunningTask error=RequestLimitExceeded);
my %servers = (wrong => 'good', closed => 'good', untrusted => 'good', good => 'good', map { ("s$_" => $faults[$_]) } 0 .. $#faults);

# A mapping's statement is its author's own: it is kept out of the log, as one would.
{
	local $ENV{PGOPTIONS} = '-c log_statement=none -c log_min_messages=panic -c log_duration=off -c log_min_error_statement=panic'
	  . ' -c log_parser_stats=off -c debug_print_parse=off -c debug_print_plan=off';

	for my $name (sort keys %servers)
	{
		$node->add_server($name, $name eq 'closed' ? $closed : $api,
			account => $name eq 'wrong' ? \@wrong : $servers{$name} =~ /RequestLimitExceeded/ ? \@other : \@account,
			ca_file => $name eq 'untrusted' ? $closed->ca_file : $api->ca_file_copy,
			connect_timeout => '60s',
			request_timeout => $servers{$name} eq 'fault:hang' ? '2s' : '30s');
	}
	my $session = $node->begin("ALTER USER MAPPING FOR PUBLIC SERVER wrong OPTIONS (SET token '$secrets{token} ')");
	is($session->end->{error}{sqlstate}, '22023', 'a token that cannot be one is refused');
	is(told($session), '', 'without being shown');
}

$node->safe_psql('postgres', join '', map { insert_sql(server => $_, stream_name => $servers{$_}) } sort keys %servers);
# A call that the rate limit refuses is sent again until its own time is over.
my %sessions = map { ($_ => $node->begin('SET client_min_messages = debug5;' . ($servers{$_} =~ /RequestLimitExceeded/ ? "SET statement_timeout = '5s';" : '')
		  . call_sql(server => $_, stream_name => $servers{$_}))) } keys %servers;

# While they are under way, one of them for two seconds
my $seen = '';
ok(wait_until(sub { $seen .= $node->safe_psql('postgres', 'SELECT * FROM pg_stat_activity'); $seen =~ /ScreenshotTaskCall|Extension/ }),
	'calls are under way');
ok($node->wait_for_table("status NOT IN ('pending', 'sending') OR error_message IS NOT NULL"), 'all requests have come to something');
my %states = map { ($_ => $sessions{$_}->end->{error}{sqlstate} // 'none') } keys %sessions;
is_deeply([ @states{qw(good wrong closed untrusted s0 s1 s10 s12)} ], [qw(none 28000 08001 08001 08007 08007 22023 57014)], 'so have the calls');

# The secrets were there to be seen.
my @good = $api->requests(outcome => 'TaskId');
is_deeply([ map { $_->{headers}{'x-tc-token'} } @good ], [ ($secrets{token}) x 2 ], 'requests were sent with the token');

is(join("\n", map { told($sessions{$_}) } sort keys %sessions), "\n" x $#{ [ keys %sessions ] }, 'no client is told a secret');
is(secrets_in($seen), '', 'pg_stat_activity shows none');
is(secrets_in($node->safe_psql('postgres', 'SELECT * FROM pg_settings')), '', 'nor do the settings');
is(secrets_in($node->safe_psql('postgres', 'SELECT * FROM screenshot_task_request')), '', 'nor does the table');
is(secrets_in($node->log_text), '', 'nor does the log');
like($node->log_text, qr/DEBUG:  00000: CommitTransaction/, 'which has everything');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# The lines of a text that have secrets
sub secrets_in
{
	my ($text) = @_;

	return join "\n", grep { /$secret/ } split /\n/, $text;
}

# Those of all that a session's client was told
sub told
{
	my ($session) = @_;

	return secrets_in(join "\n", map { PostgreSQL::Test::Utils::slurp_file("$session->{base}.$_") } qw(out err));
}
