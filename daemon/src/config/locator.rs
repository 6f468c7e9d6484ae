//! The keys `roi` and `locator`: how the conjunctiva is found.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models;

/// The network that finds the conjunctiva. What runs it is set for both networks in `model`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Locator {
    /// Folder of the locator's bundle. Without it, the one that ships with the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<PathBuf>,
    /// What finds the conjunctiva while the network fails to run: `colour`, or a fixed box `X,Y,WIDTH,HEIGHT` in pixels, for a
    /// kiosk whose chin rest puts every eye in the same place. Without it, such frames are rejected. It is not asked where
    /// the network runs and finds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = "^(colour|[0-9]+,[0-9]+,[0-9]+,[0-9]+)$"))]
    pub fallback: Option<Roi>,
}

impl Locator {
    /// Folder of the bundle.
    pub fn folder(&self) -> PathBuf {
        self.bundle.clone().unwrap_or_else(models::shipped_locator)
    }
}

/// How the conjunctiva is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Roi {
    /// By the network of the locator.
    #[default]
    Auto,
    /// By colour and shape.
    Colour,
    /// From the alpha plane of the picture.
    Alpha,
    /// A fixed box: x, y, width and height in pixels.
    Box([u32; 4]),
}

impl std::str::FromStr for Roi {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => return Ok(Self::Auto),
            "colour" => return Ok(Self::Colour),
            "alpha" => return Ok(Self::Alpha),
            _ => {}
        }
        let numbers: Option<Vec<u32>> = text.split(',').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[x, y, width, height]) if width > 0 && height > 0 => Ok(Self::Box([x, y, width, height])),
            _ => Err(format!("{text:?} is no ROI; expected auto, colour, alpha or X,Y,WIDTH,HEIGHT in pixels")),
        }
    }
}

impl TryFrom<String> for Roi {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Roi> for String {
    fn from(roi: Roi) -> Self {
        match roi {
            Roi::Auto => "auto".into(),
            Roi::Colour => "colour".into(),
            Roi::Alpha => "alpha".into(),
            Roi::Box([x, y, width, height]) => format!("{x},{y},{width},{height}"),
        }
    }
}
