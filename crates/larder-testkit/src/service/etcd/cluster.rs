//! Several servers that agree.

use super::{EtcdServer, Ports, wait_for};

/// A cluster of etcd servers of this process, on the loopback interface only.
///
/// ```no_run
/// use larder_testkit::service::EtcdCluster;
///
/// let cluster = EtcdCluster::start(3)?;
/// let uri = format!("{}/mine", cluster.uri());
/// cluster.members()[cluster.leader()?].kill();
/// # Ok::<_, String>(())
/// ```
#[derive(Debug)]
pub struct EtcdCluster(Vec<EtcdServer>);

impl EtcdCluster {
    /// So many servers that have elected a leader.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn start(members: usize) -> Result<Self, String> {
        let mut problem = String::new();
        // Somebody else may take a port between our look and the server's.
        for _ in 0..5 {
            match Self::attempt(members) {
                Ok(cluster) => return Ok(cluster),
                Err(why) => problem = why,
            }
        }
        Err(problem)
    }

    fn attempt(members: usize) -> Result<Self, String> {
        // An election in tenths of a second: on this machine a message takes none.
        let settings = ["--heartbeat-interval=50", "--election-timeout=500"];
        let servers = (0..members).map(|_| EtcdServer::prepare(Ports::find(false)?, &settings));
        let mut servers = servers.collect::<Result<Vec<_>, _>>()?;
        let entries: Vec<String> = servers.iter().map(EtcdServer::entry).collect();
        for server in &mut servers {
            server.members = entries.join(",");
        }
        // None of them answers before most of them are there.
        servers.iter().try_for_each(EtcdServer::launch)?;
        servers.iter().try_for_each(EtcdServer::settle)?;
        Ok(Self(servers))
    }

    /// Its address with all members, without a prefix.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> =
            self.0.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        format!("etcd://{}", hosts.join(","))
    }

    /// Its members, running or not.
    pub fn members(&self) -> &[EtcdServer] {
        &self.0
    }

    /// Which member leads, as those say that run; waits while there is none.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn leader(&self) -> Result<usize, String> {
        wait_for("a leader", || self.0.iter().position(EtcdServer::leads))
    }
}

impl EtcdServer {
    /// Whether it believes that it leads its cluster, and is there to say so.
    fn leads(&self) -> bool {
        let status = self.post("/v3/maintenance/status", "{}").unwrap_or_default();
        let member = number(&status, "member_id");
        member.is_some() && member == number(&status, "leader")
    }
}

/// The digits behind `"name":"` in the JSON of a server.
fn number<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}
