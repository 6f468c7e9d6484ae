//! The packages of a workstation: trainer and calibrator.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Scene;
use super::life::upgrade;
use crate::common::{cutout, project};

const INSTALL: &str = "cd /root/packages && \
    dpkg -i anemiad-onnxruntime_*.deb anemiad-models_*.deb anemia-calibrate_*.deb anemia-train_*.deb 2>&1";
const LIBTORCH: &str = "/usr/lib/anemia-train/libtorch";

/// Installed, used, upgraded, removed, installed again and purged.
pub fn workstation(scene: &mut Scene) -> Result<()> {
    if scene.kiosk.run("uname -m")? != "x86_64" {
        scene.protocol.note("skipped: trainer and calibrator have packages for x86-64 only");
        return Ok(());
    }
    scene.kiosk.run(INSTALL)?;
    let layers = scene.kiosk.run("anemia-calibrate inspect /usr/share/anemiad/models/pallor/fp32.onnx")?;
    scene.protocol.check(layers.contains("logit  "), "anemia-calibrate lists the layers of the network that ships");

    let answer = scene.kiosk.run("anemia-train --version 2>&1 || true")?;
    scene.protocol.check(
        answer.contains("sudo anemia-train-setup fetches it"),
        format_args!("without libtorch, anemia-train says what to do: {answer:?}"),
    );
    // anemia-train-setup needs the internet, which a guest has not; what it would fetch is here.
    let libtorch = project().join(".deps/libtorch");
    scene.kiosk.send(&libtorch.join("lib"), &format!("{LIBTORCH}/lib"))?;
    scene.kiosk.send(&libtorch.join("installed-from"), LIBTORCH)?;
    let eyes = tempfile::tempdir()?;
    write_data_set(eyes.path())?;
    scene.kiosk.send(eyes.path(), "/root/eyes")?;
    let audit = scene.kiosk.run("anemia-train audit --data /root/eyes --out /root/eyes")?;
    scene.protocol.check(audit.contains("20 pictures"), format_args!("anemia-train audits 20 phantoms: {audit:?}"));
    let figures = scene
        .kiosk
        .run("anemia-train evaluate --bundle /usr/share/anemiad/models/pallor --data /root/eyes --precision int8")?;
    scene
        .protocol
        .check(figures.contains("AUC"), format_args!("and measures the network that ships on them: {figures:?}"));

    for package in ["anemia-calibrate", "anemia-train"] {
        upgrade(scene, package, "true")?;
        let version = scene.kiosk.run(&format!("dpkg-query -W -f '${{Version}}' {package}"))?;
        scene.protocol.check(version.ends_with("+newer"), format_args!("{package} is upgraded to {version}"));
    }
    let answer = scene.kiosk.run("anemia-train --version 2>&1 || true")?;
    scene
        .protocol
        .check(answer.starts_with("anemia-train 0"), format_args!("upgraded, it keeps its libtorch: {answer:?}"));

    scene.kiosk.run("dpkg -r anemia-train anemia-calibrate 2>&1")?;
    check_nothing_left(scene, "removed")?;
    scene.kiosk.run(INSTALL)?;
    let version = scene.kiosk.run("anemia-calibrate --version")?;
    scene.protocol.check(version.starts_with("anemia-calibrate"), format_args!("installed again: {version}"));
    scene.kiosk.run("dpkg -P anemia-train anemia-calibrate 2>&1")?;
    check_nothing_left(scene, "purged")
}

fn check_nothing_left(scene: &mut Scene, how: &str) -> Result<()> {
    let left = scene
        .kiosk
        .run("find /etc /opt /srv /usr /var -name 'anemia-*' ! -path '/var/lib/dpkg/info/*' ! -path '/root/*'")?;
    scene.protocol.check(left.is_empty(), format_args!("{how}, they leave nothing: {left:?}"));
    Ok(())
}

/// Cut-outs of twenty phantoms, pale and red ones in turn, and their sheet.
fn write_data_set(folder: &Path) -> Result<()> {
    let mut sheet = String::from("IMAGE_ID,HB_LEVEL,Age(Months),REMARK,HOSPITAL,REGION\n");
    for seed in 0..20 {
        let (remark, pallor, hb) = if seed % 2 == 0 { ("Anemic", 0.9, 9) } else { ("Non-anemic", 0.1, 12) };
        fs::create_dir_all(folder.join(remark))?;
        cutout(seed, pallor).save(folder.join(remark).join(format!("Image_{seed:03}.png")))?;
        sheet += &format!("Image_{seed:03},{hb},36,{remark},Clinic,Region\n");
    }
    fs::write(folder.join("Anemia_Data_Collection_Sheet.csv"), sheet)?;
    Ok(())
}
