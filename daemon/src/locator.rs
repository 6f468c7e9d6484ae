//! Finding the conjunctiva as the configuration says: by the network of a locator bundle, by colour, or by a given mask.

use anemia_bundle::{Bundle, Precision, Task};
use anemia_engine::{Engine, EngineError, EngineOptions, Follow};
use anemia_vision::{
    AlphaLocator, BoxLocator, ColourLocator, Followed, Frame, InputSpec, Locator, MapReader, Rejection, Roi, Squeeze,
    Tracker,
};

use crate::config;
use crate::report::LocatorIdentity;

/// What finds the conjunctiva.
pub enum Finder {
    /// A network.
    Network(Box<NetworkLocator>),
    /// Anything that needs none.
    Simple(Box<dyn Locator>),
}

/// Why there is no ROI.
#[derive(Debug)]
pub enum NotFound {
    /// There is nothing to be judged in the frame.
    Rejected(Rejection),
    /// The network gave no answer.
    Failed(EngineError),
}

/// The network of a locator bundle, and what it takes to use it on every frame of a camera.
pub struct NetworkLocator {
    engine: Box<dyn Engine>,
    input: InputSpec,
    output: anemia_bundle::OutputKind,
    squeeze: Squeeze,
    reader: MapReader,
    tracker: Tracker,
    map: Vec<f32>,
    /// Width of the map, which has the shape of the input in larger cells.
    columns: usize,
    fallback: Option<Box<dyn Locator>>,
    fault: Option<EngineError>,
    identity: LocatorIdentity,
}

impl Finder {
    /// Opens what `roi` names. `follow` is told how far the build of a plan is, and stops it with `false`.
    pub fn open(
        roi: config::Roi,
        locator: &config::Locator,
        options: &EngineOptions,
        follow: &mut Follow<'_>,
    ) -> Result<Self, EngineError> {
        if roi == config::Roi::Auto {
            return Ok(Self::Network(Box::new(NetworkLocator::open(locator, options, follow)?)));
        }
        Ok(Self::Simple(simple(roi)))
    }

    /// Writes the conjunctiva of the next frame into `roi`, and says how far it moved since the frame before, in its widths.
    pub fn find(&mut self, frame: &Frame, roi: &mut Roi) -> Result<f32, NotFound> {
        match self {
            Self::Network(network) => network.find(frame, roi),
            Self::Simple(locator) => by(locator.as_mut(), frame, roi),
        }
    }

    /// What the network said when the fallback had to find the conjunctiva of the last frame.
    pub fn take_fault(&mut self) -> Option<EngineError> {
        match self {
            Self::Network(network) => network.fault.take(),
            Self::Simple(_) => None,
        }
    }

    /// The next frame has nothing to do with the last.
    pub fn forget(&mut self) {
        if let Self::Network(network) = self {
            network.tracker.forget();
        }
    }

    /// The bundle that is used, if any.
    pub fn identity(&self) -> Option<&LocatorIdentity> {
        match self {
            Self::Network(network) => Some(&network.identity),
            Self::Simple(_) => None,
        }
    }
}

fn by(locator: &mut dyn Locator, frame: &Frame, roi: &mut Roi) -> Result<f32, NotFound> {
    if locator.locate(frame, roi) { Ok(0.0) } else { Err(NotFound::Rejected(Rejection::NoConjunctiva)) }
}

fn simple(roi: config::Roi) -> Box<dyn Locator> {
    match roi {
        config::Roi::Auto | config::Roi::Colour => Box::new(ColourLocator::new()),
        config::Roi::Alpha => Box::new(AlphaLocator),
        config::Roi::Box(edges) => {
            let [x, y, width, height] = edges.map(|edge| edge as usize);
            Box::new(BoxLocator { x, y, width, height })
        }
    }
}

impl NetworkLocator {
    fn open(locator: &config::Locator, options: &EngineOptions, follow: &mut Follow<'_>) -> Result<Self, EngineError> {
        let bundle = Bundle::open_for(&locator.folder(), Task::Locate)?;
        let mut engine = anemia_engine::load_following(&bundle, Precision::Fp32, options, follow)?;
        anemia_engine::self_test(&bundle, engine.as_mut())?;
        let manifest = bundle.manifest();
        let input = manifest.input.spec();
        let cells = engine.run()?.len().max(1);
        let columns = (input.width as f32 / ((input.width * input.height) as f32 / cells as f32).sqrt()).round();
        Ok(Self {
            engine,
            input,
            columns: columns as usize,
            output: manifest.output.kind,
            squeeze: Squeeze::new(),
            reader: MapReader::new(),
            tracker: Tracker::new(),
            map: Vec::new(),
            fallback: locator.fallback.map(simple),
            fault: None,
            identity: LocatorIdentity {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                sha256: bundle.sha256().to_string(),
            },
        })
    }

    fn find(&mut self, frame: &Frame, roi: &mut Roi) -> Result<f32, NotFound> {
        let Followed { is_there, moved } = self.tracker.follow(frame, roi);
        if is_there {
            return Ok(moved);
        }
        roi.clear();
        if frame.width() == 0 || frame.height() == 0 {
            return Err(NotFound::Rejected(Rejection::NoConjunctiva));
        }
        let InputSpec { width, height, .. } = self.input;
        let pixels = self.squeeze.squeeze(frame, width, height);
        self.input.write(pixels, self.engine.input());
        let mut found = match self.look(frame, false, roi) {
            Ok(found) => found,
            Err(error) => {
                // A network that cannot run does not stop the kiosk where the configuration names another way.
                let Some(locator) = &mut self.fallback else { return Err(NotFound::Failed(error)) };
                self.fault = Some(error);
                return by(locator.as_mut(), frame, roi);
            }
        };
        self.tracker.remember(frame, roi);
        if found == Err(Rejection::NoConjunctiva) {
            // The network learned that an eye the wrong way round is none. Turned by half a turn, it knows it again.
            self.engine.input().chunks_exact_mut(width * height).for_each(<[f32]>::reverse);
            if self.look(frame, true, roi).is_ok_and(|found| found == Err(Rejection::UpsideDown)) {
                found = Err(Rejection::UpsideDown);
            }
            roi.clear();
        }
        found.map(|()| moved).map_err(NotFound::Rejected)
    }

    /// Runs the network on its input, and reads what it found in `frame`; `turned` says that the input is half a turn of it.
    fn look(&mut self, frame: &Frame, turned: bool, roi: &mut Roi) -> Result<Result<(), Rejection>, EngineError> {
        let values = self.engine.run()?;
        self.map.clear();
        self.map.extend(values.iter().map(|&value| self.output.to_logit(value)));
        if turned {
            self.map.reverse();
        }
        Ok(self.reader.read(frame, &self.map, self.columns, roi))
    }
}
