"""Cycles materials: skin, eyes, hair and cloth, all procedural but for the eye's picture.

Colours are linear RGB. Lengths are metres. Masks such as "lip" are vertex attributes that the mesh carries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

Colour = tuple[float, float, float]
Socket = Any  # a node's input or output; bpy has no types for them


class Nodes:
    """A material under construction: `add` a node, `link` sockets, small arithmetic on sockets."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.tree.nodes.clear()
        self.output = self.add("OutputMaterial")

    def add(self, kind: str, inputs: dict | None = None, **attributes: Any) -> Any:
        """A shader node; `inputs` maps socket names to values or to other nodes' sockets."""
        node = self.tree.nodes.new(f"ShaderNode{kind}")
        for name, value in attributes.items():
            setattr(node, name, value)
        for name, value in (inputs or {}).items():
            self.set(node.inputs[name], value)
        return node

    def set(self, socket: Socket, value: Any) -> None:
        if hasattr(value, "is_output"):
            self.tree.links.new(value, socket)
        elif isinstance(value, tuple) and socket.type == "RGBA":
            socket.default_value = (*value[:3], 1.0)
        else:
            socket.default_value = value

    def surface(self, socket: Socket) -> None:
        self.tree.links.new(socket, self.output.inputs["Surface"])

    def math(self, operation: str, *values: Any) -> Socket:
        node = self.add("Math", operation=operation)
        for socket, value in zip(node.inputs, values, strict=False):
            self.set(socket, value)
        return node.outputs[0]

    def remap(self, value: Any, low: float, high: float, to_low: float = 0.0, to_high: float = 1.0) -> Socket:
        """Linear from [low, high] to [to_low, to_high], clamped."""
        node = self.add("MapRange", {"Value": value, "From Min": low, "From Max": high, "To Min": to_low})
        node.inputs["To Max"].default_value = to_high
        return node.outputs[0]

    def mix(self, factor: Any, first: Any, second: Any) -> Socket:
        node = self.add("Mix", data_type="RGBA")
        for number, value in ((0, factor), (6, first), (7, second)):
            self.set(node.inputs[number], value)
        return node.outputs[2]

    def attribute(self, name: str) -> Socket:
        return self.add("Attribute", attribute_name=name).outputs["Fac"]

    def place(self, scale: Colour = (1.0, 1.0, 1.0), space: str = "Object") -> Socket:
        coordinates = self.add("TexCoord").outputs[space]
        return self.add("Mapping", {"Vector": coordinates, "Scale": scale}).outputs[0]

    def noise(self, scale: float, detail: float = 2.0, vector: Socket = None, distortion: float = 0.0) -> Socket:
        inputs = {"Scale": scale, "Detail": detail, "Distortion": distortion, "Vector": vector or self.place()}
        return self.add("TexNoise", inputs).outputs[0]

    def bump(self, height: Socket, distance: float, strength: float = 1.0) -> Socket:
        return self.add("Bump", {"Height": height, "Distance": distance, "Strength": strength}).outputs[0]


def skin(base: Colour, lip: Colour, flush: Colour, hair: Colour) -> bpy.types.Material:
    """Skin with subsurface scattering; attributes lip, cheek (blush), crease, nail and scalp colour it."""
    nodes = Nodes("skin")
    blotch = nodes.noise(22.0, 4.0)
    darker: Colour = (base[0] * 0.90, base[1] * 0.82, base[2] * 0.78)
    colour = nodes.mix(blotch, darker, base)
    freckle = nodes.remap(nodes.noise(330.0, 1.0), 0.60, 0.72)
    freckled = nodes.math("MULTIPLY_ADD", nodes.attribute("cheek"), 0.35, 0.06)
    brown: Colour = (base[0] * 0.6, base[1] * 0.4, base[2] * 0.3)
    colour = nodes.mix(nodes.math("MULTIPLY", freckle, freckled), colour, brown)
    colour = nodes.mix(nodes.math("MULTIPLY", nodes.attribute("cheek"), 0.62), colour, flush)
    colour = nodes.mix(nodes.math("MULTIPLY", nodes.attribute("lip"), 0.88), colour, lip)
    crease = nodes.math("MULTIPLY", nodes.attribute("crease"), 0.30)
    colour = nodes.mix(crease, colour, (flush[0] * 0.62, flush[1] * 0.55, flush[2] * 0.5))
    nail: Colour = (min(1.0, base[0] * 1.10), base[1] * 0.94, base[2] * 0.98)
    colour = nodes.mix(nodes.math("MULTIPLY", nodes.attribute("nail"), 0.7), colour, nail)
    colour = nodes.mix(nodes.math("MULTIPLY", nodes.attribute("scalp"), 0.92), colour, hair)
    roughness = nodes.remap(nodes.noise(60.0, 3.0), 0.3, 0.7, 0.44, 0.56)
    roughness = nodes.math("SUBTRACT", roughness, nodes.math("MULTIPLY", nodes.attribute("lip"), 0.16))
    roughness = nodes.math("SUBTRACT", roughness, nodes.math("MULTIPLY", nodes.attribute("nail"), 0.26))
    roughness = nodes.math("ADD", roughness, nodes.math("MULTIPLY", nodes.attribute("scalp"), 0.3))
    lip_lines = nodes.noise(1.0, 2.0, nodes.place((900.0, 200.0, 160.0)))
    pores = nodes.math("ADD", nodes.noise(900.0, 2.0), nodes.math("MULTIPLY", nodes.noise(260.0, 2.0), 0.8))
    height = nodes.math("MULTIPLY_ADD", nodes.math("MULTIPLY", nodes.attribute("lip"), lip_lines), 1.5, pores)
    shader = nodes.add(
        "BsdfPrincipled",
        {
            "Base Color": colour,
            "Roughness": roughness,
            "Specular IOR Level": 0.42,
            "Normal": nodes.bump(height, 0.00022, 0.5),
            "Subsurface Weight": 0.85,
            "Subsurface Radius": (1.0, 0.34, 0.18),
            "Subsurface Scale": 0.0055,
        },
    )
    nodes.surface(shader.outputs[0])
    return nodes.material


def eye(picture: Path) -> tuple[bpy.types.Material, bpy.types.Material]:
    """The eyeball with its picture, and the clear cornea over it."""
    ball = Nodes("eye")
    image = ball.add("TexImage", image=bpy.data.images.load(str(picture)))
    shader = ball.add("BsdfPrincipled", {"Base Color": image.outputs[0], "Roughness": 0.22, "Specular IOR Level": 0.4})
    ball.surface(shader.outputs[0])
    cornea = Nodes("cornea")
    clear, gloss = cornea.add("BsdfTransparent"), cornea.add("BsdfGlossy", {"Roughness": 0.02})
    facing = cornea.math("MULTIPLY", cornea.add("Fresnel", {"IOR": 1.38}).outputs[0], 2.2)
    cornea.surface(cornea.add("MixShader", {0: facing, 1: clear.outputs[0], 2: gloss.outputs[0]}).outputs[0])
    return ball.material, cornea.material


def hair(colour: Colour, tip: Colour) -> bpy.types.Material:
    """Principled hair with a colour that varies from strand to strand and lightens towards the tips."""
    nodes = Nodes("hair")
    info = nodes.add("HairInfo")
    shade = nodes.mix(info.outputs["Random"], tuple(c * 0.62 for c in colour), tuple(c * 1.35 for c in colour))
    shade = nodes.mix(nodes.math("MULTIPLY", nodes.math("POWER", info.outputs["Intercept"], 2.0), 0.6), shade, tip)
    shader = nodes.add(
        "BsdfHairPrincipled",
        {"Color": shade, "Roughness": 0.34, "Radial Roughness": 0.45, "Coat": 0.0, "IOR": 1.55},
        parametrization="COLOR",
    )
    nodes.surface(shader.outputs[0])
    return nodes.material


def knit(colour: Colour) -> bpy.types.Material:
    """Fine wool jersey: stitch columns along the garment's UV, ribs where the attribute "rib" is 1, fuzz as sheen."""
    nodes = Nodes("knit")
    uv = nodes.place(space="UV")
    columns = nodes.add("TexWave", {"Vector": uv, "Scale": 75.0, "Distortion": 0.4, "Detail": 1.0}).outputs["Fac"]
    ribs = nodes.add("TexWave", {"Vector": uv, "Scale": 26.0, "Distortion": 0.0}).outputs["Fac"]
    fibres = nodes.noise(1400.0, 2.0)
    cloudy = nodes.noise(9.0, 4.0)
    rib = nodes.attribute("rib")
    height = nodes.math("MULTIPLY_ADD", columns, nodes.math("SUBTRACT", 1.0, rib), nodes.math("MULTIPLY", fibres, 0.9))
    height = nodes.math("MULTIPLY_ADD", nodes.math("MULTIPLY", ribs, rib), 2.6, height)
    shade = nodes.mix(cloudy, tuple(c * 0.86 for c in colour), tuple(c * 1.08 for c in colour))
    shade = nodes.mix(nodes.math("MULTIPLY", fibres, 0.35), shade, tuple(c * 0.55 for c in colour))
    groove = nodes.math("MULTIPLY", nodes.math("SUBTRACT", 1.0, ribs), rib)
    shade = nodes.mix(nodes.math("MULTIPLY", groove, 0.35), shade, tuple(c * 0.45 for c in colour))
    shader = nodes.add(
        "BsdfPrincipled",
        {
            "Base Color": shade,
            "Roughness": 0.9,
            "Specular IOR Level": 0.15,
            "Sheen Weight": 0.35,
            "Sheen Roughness": 0.45,
            "Sheen Tint": tuple(min(1.0, c * 1.6 + 0.1) for c in colour),
            "Normal": nodes.bump(height, 0.0007, 0.6),
        },
    )
    nodes.surface(shader.outputs[0])
    return nodes.material


def plain(name: str, colour: Colour, roughness: float, subsurface: float = 0.0) -> bpy.types.Material:
    nodes = Nodes(name)
    inputs = {"Base Color": colour, "Roughness": roughness, "Subsurface Weight": subsurface}
    inputs |= {"Subsurface Radius": (1.0, 0.5, 0.4), "Subsurface Scale": 0.004}
    nodes.surface(nodes.add("BsdfPrincipled", inputs).outputs[0])
    return nodes.material


def fabric(colour: Colour) -> bpy.types.Material:
    """Woven cotton: a fine thread bump."""
    nodes = Nodes("fabric")
    threads = nodes.noise(1500.0, 1.0)
    shade = nodes.mix(nodes.noise(12.0, 3.0), tuple(c * 0.93 for c in colour), colour)
    shader = nodes.add(
        "BsdfPrincipled",
        {
            "Base Color": shade,
            "Roughness": 0.8,
            "Specular IOR Level": 0.2,
            "Sheen Weight": 0.15,
            "Normal": nodes.bump(threads, 0.0003, 0.5),
        },
    )
    nodes.surface(shader.outputs[0])
    return nodes.material


def lashes() -> bpy.types.Material:
    """Dark, and clearer away from the lid: the attribute "lash" is 1 at the lid."""
    nodes = Nodes("lashes")
    hairs = nodes.remap(nodes.noise(1.0, 1.0, nodes.place((2600.0, 2600.0, 300.0))), 0.4, 0.6)
    cover = nodes.math("MULTIPLY", nodes.attribute("lash"), nodes.math("MULTIPLY_ADD", hairs, 0.5, 0.45))
    dark, clear = nodes.add("BsdfDiffuse", {"Color": (0.010, 0.007, 0.006)}), nodes.add("BsdfTransparent")
    nodes.surface(nodes.add("MixShader", {0: cover, 1: clear.outputs[0], 2: dark.outputs[0]}).outputs[0])
    return nodes.material
