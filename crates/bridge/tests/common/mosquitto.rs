//! A real mosquitto on a free port of the loopback.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};

pub struct Mosquitto {
    child: Option<Child>,
    dir: tempfile::TempDir,
    pub port: u16,
}

fn executable() -> Option<&'static str> {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .find(|path| Path::new(path).exists())
}

impl Mosquitto {
    /// `None`, and a word about it, where mosquitto is not installed. `listener` are lines for the
    /// listener, with `DIR` for a directory that `files` go to.
    pub fn start(listener: &str, files: &[(&str, &str)]) -> Option<Self> {
        if executable().is_none() {
            eprintln!("SKIPPED: mosquitto is not installed (apt install mosquitto)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let path = dir.path().display().to_string();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content.replace("DIR", &path)).unwrap();
        }
        let lines = listener.replace("DIR", &path);
        let text = format!(
            "persistence true\npersistence_location {path}/\nautosave_interval 3600\n\
             max_queued_messages 0\nmax_inflight_messages 100\nuser root\n\
             listener {port} 127.0.0.1\n{lines}\n"
        );
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let mut mosquitto = Self {
            child: None,
            dir,
            port,
        };
        mosquitto.run();
        Some(mosquitto)
    }

    pub fn open() -> Option<Self> {
        Self::start("allow_anonymous true", &[])
    }

    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let config = self.dir.path().join("mosquitto.conf");
        let child = Command::new(executable().unwrap())
            .arg("-c")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// As `systemctl stop` does: it writes its sessions and queues down.
    pub fn terminate(&mut self) {
        let mut child = self.child.take().unwrap();
        let id = child.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        child.wait().unwrap();
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client of the upstream that collects what comes, over outages.
pub struct Watcher {
    pub client: AsyncClient,
    pub seen: Arc<Mutex<Vec<(String, String)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    pub async fn start(port: u16, id: &str, filter: &str) -> Self {
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_clean_session(false);
        let (client, mut events) = AsyncClient::new(options, 100);
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (collected, again) = (seen.clone(), client.clone());
        let ready = Arc::new(tokio::sync::Notify::new());
        let tell = ready.clone();
        let filter = filter.to_owned();
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::SubAck(_))) => tell.notify_one(),
                    Ok(Event::Incoming(Packet::ConnAck(ack))) if !ack.session_present => {
                        let _ = again.try_subscribe(&filter, QoS::AtLeastOnce);
                    }
                    Ok(Event::Incoming(Packet::Publish(p))) => {
                        let payload = String::from_utf8(p.payload.to_vec()).unwrap();
                        collected.lock().unwrap().push((p.topic, payload));
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        ready.notified().await;
        Self { client, seen, task }
    }

    pub fn payloads(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(_, payload)| payload.clone()).collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
