# SPDX-License-Identifier: ISC
# A CGI program in Perl, started by fcgiwrap; nginx runs on the host and reaches it by a socket in the jail.
mkdir cgi
cat > cgi/hello.pl <<'CGI'
#!/usr/bin/perl
use strict;
use warnings;
use CGI;
use Digest::SHA qw(sha1_hex);
use Encode qw(encode);
use POSIX qw(floor strftime);
my $query = CGI->new;
print $query->header("text/plain");
print join(" ", floor(2.7), length encode("UTF-16", "ab"), substr(sha1_hex(""), 0, 4), strftime("%Y", gmtime 0),
    scalar $query->param("name")), "\n";
CGI
chmod 755 cgi/hello.pl
cat > nginx.conf <<'CONF'
daemon off;
user www-data;
worker_processes 1;
error_log /srv/error.log;
pid /srv/nginx.pid;
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:80;
        location / {
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME /srv/cgi/hello.pl;
            fastcgi_pass unix:/srv/jails/cgi/run/cgi.sock;
        }
    }
}
CONF
mkdir -m 755 jails
"$STOCKADE" jail jails/cgi fcgiwrap sh /srv/cgi/hello.pl --user www-data
begin() {
    rm -f jails/cgi/run/cgi.sock
    chroot jails/cgi /usr/sbin/fcgiwrap -s unix:/run/cgi.sock & wrap=$!
    nginx -c /srv/nginx.conf & nginx=$!
    until_works test -S jails/cgi/run/cgi.sock
    chown www-data jails/cgi/run/cgi.sock
    until_works curl -sf 'http://127.0.0.1/?name=x'
}
answers() { [ "$(curl -sf 'http://127.0.0.1/?name=its+name')" = '2 6 da39 1970 its name' ]; }
begin
answers
stop $wrap $nginx
breaks_and_mends jails/cgi 'POSIX.so'
begin
answers
stop $wrap $nginx
upgrade "$(dpkg-query -S "*/libfcgi.so.0" | head -1 | cut -d: -f1)"
differs "$STOCKADE" check jails/cgi --host
"$STOCKADE" build jails/cgi
begin
answers
stop $wrap $nginx
