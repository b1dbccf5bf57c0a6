//! Networks of `run` and `build`: published ports, names, the host's own network, and what is left when the program is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use test_support::{Auth, Registry, TestEnv, images};

/// An environment whose store has the image `box`: busybox, which exposes a port.
fn with_box() -> TestEnv {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", format!("FROM {}/demo/base:1\nEXPOSE 80\n", registry.address()));
    env.wharf(&["build", "-q", "-t", "box", "."]).success();
    env
}

/// A container that serves its /etc by HTTP, with the first line that was written to standard error.
struct Server {
    child: Child,
    notice: String,
}

impl Server {
    /// Starts it with these flags, and waits until it serves.
    fn start(env: &TestEnv, flags: &[&str]) -> Self {
        let mut command = env.command();
        command.args(["run", "--rm", "-i"]).args(flags).args(["box", "sh", "-c"]);
        // The server goes to the background when it listens.
        command.arg("httpd -p 80 -h /etc && echo ready && read line");
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let mut notice = String::new();
        BufReader::new(child.stderr.take().expect("it is piped")).read_line(&mut notice).expect("it can be read");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut ready).expect("it can be read");
        assert_eq!(ready, "ready\n", "{notice}");
        Self { child, notice }
    }

    /// The port of the host that the notice tells, for this address and port of the container.
    fn port(&self, before: &str, after: &str) -> u16 {
        let found = self.notice.trim_end().split(", ").find_map(|word| word.strip_prefix(before)?.strip_suffix(after));
        found.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {:?}", self.notice))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _it_may_have_ended = self.child.kill();
        let _it_was_waited_for = self.child.wait();
    }
}

fn fetch(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("it is a time");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Names of the host's interfaces.
fn interfaces() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/dev").expect("there is a network");
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

#[test]
fn a_published_port_leads_to_the_container_until_it_ends() {
    let env = with_box();
    let mut server = Server::start(&env, &["-p", "127.0.0.1::80", "--add-host", "db:192.0.2.7"]);
    let port = server.port("127.0.0.1:", "->80/tcp");
    let hosts = fetch(port, "/hosts");
    assert!(hosts.starts_with("HTTP/1.") && hosts.contains("\n192.0.2.7\tdb\n10.0.2.100\t"), "{hosts}");

    let taken =
        env.wharf(&["run", "--rm", "-p", &format!("127.0.0.1:{port}:80"), "box", "true"]).exits_with(125).stderr;
    assert!(taken.contains(&format!("cannot listen on 127.0.0.1:{port}/tcp")) && taken.contains("hint: "), "{taken}");

    writeln!(server.child.stdin.take().expect("it is piped")).expect("the command reads");
    assert_eq!(server.child.wait().expect("a child can be waited for").code(), Some(0));
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");
}

#[test]
fn exposed_ports_are_published_on_free_ones_and_nothing_is_left_of_a_killed_program() {
    let env = with_box();
    let before = interfaces();
    let mut server = Server::start(&env, &["-P"]);
    let port = server.port("0.0.0.0:", "->80/tcp");
    assert!(fetch(port, "/hostname").contains("200 OK"));
    server.child.kill().expect("it runs");
    server.child.wait().expect("a child can be waited for");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "the port is still served");
    assert_eq!(interfaces(), before);
}

#[test]
fn words_that_make_no_sense_are_refused_by_name() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    for (flags, expected) in [
        (["-p", "x:80"], "`x` is not a port"),
        (["-p", "80-90:80-81"], "are not of the same length"),
        (["-p", "localhost:80:80"], "`localhost` is not an IP address"),
        (["--dns", "nine"], "'nine'"),
        (["--dns-search", "a b"], "one word"),
        (["--add-host", "db"], "NAME:IP"),
        (["--add-host", "db:300.0.0.1"], "`300.0.0.1` is neither"),
    ] {
        let refused = env.wharf(&["run", "--rm", flags[0], flags[1], "box"]).exits_with(125).stderr;
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn names_are_asked_of_whom_the_flags_name() {
    let env = with_box();
    let dns = ["--dns", "192.0.2.53", "--dns-search", "corp.example", "--dns-option", "ndots:3"];
    let resolv_conf = |flags: &[&str]| {
        let words = [&["run", "--rm"], flags, &dns, &["box", "cat", "/etc/resolv.conf"]].concat();
        env.wharf(&words).success().stdout
    };
    let rest = "search corp.example\noptions ndots:3\n";
    assert_eq!(resolv_conf(&[]), format!("nameserver 10.0.2.3\n{rest}"));
    assert_eq!(resolv_conf(&["--network", "host"]), format!("nameserver 192.0.2.53\n{rest}"));
}

#[test]
fn the_host_s_network_is_seen_only_by_who_is_given_it() {
    let env = with_box();
    let host = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback is there");
    let port = host.local_addr().expect("it is bound").port();
    let knock = format!("nc -w 2 127.0.0.1 {port} -e true && echo open || echo closed");
    let run = |network: &str| env.wharf(&["run", "--rm", "--network", network, "box", "sh", "-c", &knock]).success();
    assert_eq!((run("host").stdout.as_str(), run("default").stdout.as_str()), ("open\n", "closed\n"));
    let discarded = env.wharf(&["run", "--rm", "--network", "host", "-p", "80", "box", "true"]).success().stderr;
    assert_eq!(discarded, "WARNING: Published ports are discarded when using host network mode\n");

    env.file("Dockerfile", format!("FROM box\nRUN ({knock}) > /default; grep -w db /etc/hosts >> /default\n"));
    env.wharf(&["build", "-q", "-t", "hosted", "--network=host", "--add-host", "db=192.0.2.7", "."]).success();
    assert_eq!(env.wharf(&["run", "--rm", "hosted", "cat", "/default"]).success().stdout, "open\n192.0.2.7\tdb\n");
    env.file("Dockerfile", format!("FROM box\nRUN --network=host ({knock}) > /asked\n"));
    let refused = env.wharf(&["build", "."]).exits_with(1).stderr;
    assert!(refused.contains("`RUN --network=host` is not allowed"), "{refused}");
    assert!(refused.contains("`--allow network.host`"), "{refused}");
    env.wharf(&["build", "-q", "-t", "hosted", "--allow", "network.host", "."]).success();
    assert_eq!(env.wharf(&["run", "--rm", "hosted", "cat", "/asked"]).success().stdout, "open\n");
}
