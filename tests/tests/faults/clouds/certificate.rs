//! A cloud that shows a certificate of an authority that nobody trusts.

use std::sync::{Arc, Mutex};

use walferry_tests::tls::{Authority, Front};

use super::{BOTH, Clouds, on_each, others_go_on, told};
use crate::fault::Fault;
use crate::stage::{BOUND, Stage};

pub(super) fn faults() -> Vec<Fault> {
    on_each("certificate-wrong", certificate_wrong)
}

/// TLS in front of both clouds, and the authorities.
struct Fronts {
    trusted: Authority,
    other: Authority,
    fronts: Vec<(&'static str, Front)>,
}

impl Fronts {
    fn new(stage: &mut Stage) -> Fronts {
        let folder = stage.world.folder().join("other-authority");
        std::fs::create_dir(&folder).expect("make a folder");
        let trusted = Authority::new(stage.world.folder());
        let fronts = BOTH
            .iter()
            .map(|cloud| {
                let proxy = stage.world.cloud(cloud).proxy().address();
                let runtime = stage.world.runtime().handle();
                (*cloud, trusted.changing_front(proxy, runtime))
            })
            .collect();
        Fronts {
            trusted,
            other: Authority::new(&folder),
            fronts,
        }
    }

    fn show(&self, clouds: Clouds, authority: &Authority) {
        for (cloud, front) in &self.fronts {
            if clouds.contains(cloud) {
                front.show(authority);
            }
        }
    }
}

fn certificate_wrong(name: &'static str, clouds: Clouds) -> Fault {
    let made: Arc<Mutex<Option<Fronts>>> = Arc::default();
    let with = |made: &Arc<Mutex<Option<Fronts>>>, step: fn(&Fronts, Clouds)| {
        let made = Arc::clone(made);
        move |clouds| {
            let made = made.lock().expect("no panic under the lock");
            step(made.as_ref().expect("made before"), clouds);
        }
    };
    let begin = with(&made, |fronts, clouds| fronts.show(clouds, &fronts.other));
    let end = with(&made, |fronts, clouds| fronts.show(clouds, &fronts.trusted));
    let (cause, words) = ("tls", "the TLS connection failed");
    let fault = Fault::new(name, "`tls`, HINT to name the CA; not one byte is sent")
        .before(move |stage| {
            let fronts = Fronts::new(stage);
            for (cloud, front) in &fronts.fronts {
                let variable = match *cloud {
                    "r2" => "CLOUDFLARE_R2_ENDPOINT_URL",
                    _ => "BACKBLAZE_B2_ENDPOINT_URL",
                };
                let url = format!("https://{}", front.address);
                stage.world.set_variable(variable, &url);
            }
            let ca = fronts.trusted.ca().display().to_string();
            stage.world.set_variable("SSL_CERT_FILE", &ca);
            *made.lock().expect("no panic under the lock") = Some(fronts);
        })
        .begin(move |stage| {
            stage.hand_over(1);
            stage.world.await_verified_within(BOUND);
            begin(clouds);
        })
        .meanwhile(move |stage| others_go_on(stage, clouds))
        .end(move |_| end(clouds));
    let fault = told::by_check_itself(fault, clouds, cause, words);
    let fault = told::by_check_as_behind(fault, clouds, cause, words);
    let fault = told::by_readyz(told::by_status(fault, clouds, cause), clouds, cause);
    told::by_requests(fault, clouds, cause)
}
