// SPDX-License-Identifier: ISC
//! Real services in jails, asked by real clients: each works, is broken on purpose, named by `check`, mended by `build`, and
//! survives an upgrade of its packages. Each runs on a host of its own: see `services/host.sh`.

mod common;

use std::fs;
use std::process::Command;

use common::{Said, World, able, native};

fn service(name: &str, programs: &[&str]) {
    let needs = ["unshare", "chroot", "busybox", "curl", "dpkg-deb", "setpriv"];
    if !native("sessions are entered") || !able(&[&needs, programs].concat()) {
        return;
    }
    let world = World::on_disk();
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services");
    let mount = world.path("host");
    fs::create_dir(&mount).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "-n", "-p", "-f", "--kill-child", "--propagation", "private", "sh"]);
    command.arg(format!("{scripts}/host.sh")).arg(format!("{scripts}/{name}.sh")).arg(&mount);
    world.settle(&mut command);
    let said = Said::of(command.output().unwrap());
    assert_eq!(said.status, Some(0), "{name}: {}{}", said.out, said.err);
}

#[test]
fn nginx_and_php_with_a_database_and_mail() {
    service("web", &["nginx", "msmtp", "psql", "python3"]);
}

#[test]
fn sftp_and_nothing_else() {
    service("sftp", &["sshd", "sftp", "ssh-keygen", "useradd"]);
}

#[test]
fn an_application_in_python() {
    service("wsgi", &["gunicorn"]);
}

#[test]
fn a_cgi_program_in_perl() {
    service("cgi", &["fcgiwrap", "nginx", "perl"]);
}
