#![allow(clippy::unwrap_used)] // a test that panics has failed

use std::path::Path;

use iotedge_ports::MqttCredentials;

use super::*;

/// Counts its calls in a file, and answers with what stands in another.
struct House {
    folder: tempfile::TempDir,
}

const YES: &str = r#"{"isAuthenticated":true,"principalId":"abc1","refreshAfterInSeconds":300,
    "disconnectAfterInSeconds":3600,"policyDocuments":[{"Version":"2012-10-17","Statement":
    {"Effect":"Allow","Action":"iot:Connect","Resource":"*"}}]}"#;

impl House {
    fn new(answer: &str) -> Self {
        let house = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        house.says(answer);
        house
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn says(&self, answer: &str) {
        std::fs::write(self.path("answer"), answer).unwrap();
    }

    fn calls(&self) -> usize {
        std::fs::read(self.path("calls")).map_or(0, |calls| calls.len())
    }

    fn config(&self, script: &str) -> AuthorizerConfig {
        let script = format!(
            "printf x >> {}; cat > {}; {script} cat {}",
            self.path("calls"),
            self.path("event"),
            self.path("answer")
        );
        AuthorizerConfig {
            name: "badge".into(),
            call: AuthorizerCall::Command(vec!["/bin/sh".into(), "-c".into(), script]),
            token_key_name: None,
            token_signing_keys: Vec::new(),
            timeout: Duration::from_secs(20),
            max_rate: 100,
            max_concurrent: 10,
            cache: Duration::from_secs(300),
        }
    }

    fn authenticator(&self, config: &AuthorizerConfig) -> CustomAuthenticator {
        assert!(Path::new("/bin/sh").exists());
        let grant: MakeGrant = Arc::new(|documents| Grant(Arc::new(documents)));
        let authorizers = Authorizers::new(std::slice::from_ref(config), &grant).unwrap();
        authorizers.of(&["badge".into()])
    }
}

fn client(password: &str) -> Credentials {
    Credentials {
        mqtt: Some(MqttCredentials {
            client_id: "c".into(),
            user_name: Some("me".into()),
            password: Some(password.to_owned().into()),
        }),
        ..Credentials::default()
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_who_shows_the_same_and_no_longer_than_it_says() {
    let house = House::new(YES);
    let custom = house.authenticator(&house.config(""));
    let known = custom.authenticate(&client("a")).await.unwrap();
    assert_eq!(&*known.principal.id(), "custom:badge:abc1");
    assert_eq!(known.disconnect_after, Some(Duration::from_secs(3600)));
    assert!(known.grant.is_some());
    custom.authenticate(&client("a")).await.unwrap();
    assert_eq!(house.calls(), 1);
    custom.authenticate(&client("b")).await.unwrap();
    assert_eq!(house.calls(), 2);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    custom.authenticate(&client("a")).await.unwrap();
    assert_eq!(house.calls(), 3);
}

#[tokio::test]
async fn a_no_and_a_broken_answer_are_not_kept() {
    let house = House::new(r#"{"isAuthenticated":false}"#);
    let custom = house.authenticator(&house.config(""));
    let no = custom.authenticate(&client("a")).await;
    assert!(matches!(no, Err(NotAuthenticated::Refused(_))), "{no:?}");
    house.says("oops");
    let broken = custom.authenticate(&client("a")).await;
    assert!(
        matches!(broken, Err(NotAuthenticated::Unavailable(_))),
        "{broken:?}"
    );
    house.says(YES);
    custom.authenticate(&client("a")).await.unwrap();
    assert_eq!(house.calls(), 3);
}

#[tokio::test]
async fn who_gives_no_answer_in_time_lets_nobody_in() {
    let house = House::new(YES);
    let config = AuthorizerConfig {
        timeout: Duration::from_millis(300),
        ..house.config("sleep 600;")
    };
    let late = house
        .authenticator(&config)
        .authenticate(&client("a"))
        .await;
    assert!(
        matches!(late, Err(NotAuthenticated::Unavailable(_))),
        "{late:?}"
    );
    let failing = house.authenticator(&house.config("exit 3;"));
    let failed = failing.authenticate(&client("a")).await;
    assert!(
        matches!(failed, Err(NotAuthenticated::Unavailable(_))),
        "{failed:?}"
    );
}

#[tokio::test]
async fn it_is_not_asked_more_often_than_it_may_be() {
    let house = House::new(YES);
    let config = AuthorizerConfig {
        max_rate: 2,
        ..house.config("")
    };
    let custom = house.authenticator(&config);
    let rate = &custom.hook(&client("a")).unwrap().rate;
    let begin = Instant::now();
    let answers: Vec<bool> = (0..4).map(|_| rate.take(begin)).collect();
    assert_eq!(answers, [true, true, false, false]);
    assert!(rate.take(begin + Duration::from_millis(600)));
    assert!(!rate.take(begin + Duration::from_millis(600)));
    // Whoever comes then is told so, and nobody is asked.
    *rate.left.lock().unwrap() = (0.0, Instant::now() + Duration::from_secs(60));
    let busy = custom.authenticate(&client("a")).await;
    assert!(matches!(busy, Err(NotAuthenticated::Busy(_))), "{busy:?}");
    assert_eq!(house.calls(), 0);
}

#[tokio::test]
async fn a_client_names_its_authorizer_among_those_of_the_listener() {
    let house = House::new(YES);
    let custom = house.authenticator(&house.config(""));
    let named = |name: &str| Credentials {
        mqtt: Some(MqttCredentials {
            user_name: Some(format!("me?x-amz-customauthorizer-name={name}")),
            ..MqttCredentials::default()
        }),
        ..Credentials::default()
    };
    custom.authenticate(&named("badge")).await.unwrap();
    let other = custom.authenticate(&named("other")).await;
    assert!(
        matches!(other, Err(NotAuthenticated::Refused(_))),
        "{other:?}"
    );
}
