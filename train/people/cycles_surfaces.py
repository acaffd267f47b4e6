"""Materials of a figure for Blender's Cycles, of the same attributes and patterns as `shaders`.

Attributes of a vertex: `colour` (linear colour, alpha), `rest` (3), `open` and `own`, from `Figure.static`. Light is
the renderer's own, so that what the rasteriser imitates (occlusion, light that bleeds into shadows) is left out here,
except where few samples would flicker: the eyes' highlight, and light in the mouth. All values were chosen by hand on
contact sheets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.people import shaders
from train.people.looks import Look, Weave

Socket = Any  # of a node
WARMTH = (1.06, 0.97, 0.91)  # of skin, for the light that the rasteriser lets bleed in red
# Inputs of Blender's principled surface by material. Subsurface radii are metres in red, green, blue.
SURFACES: dict[int, dict[str, Any]] = {
    shaders.SKIN: {
        "Roughness": 0.50, "Specular IOR Level": 0.14, "Specular Tint": (1.0, 0.80, 0.70, 1.0),
        "Subsurface Weight": 0.20, "Subsurface Scale": 0.006, "Subsurface Radius": (1.0, 0.36, 0.20),
    },
    shaders.CLOTH: {"Roughness": 0.88, "Specular IOR Level": 0.12, "Sheen Weight": 0.06, "Sheen Roughness": 0.5},
    shaders.HAIR: {"Roughness": 0.42, "Specular IOR Level": 0.2, "Anisotropic": 0.75, "Anisotropic Rotation": 0.25},
    shaders.EYE: {"Roughness": 0.30, "Specular IOR Level": 0.3, "Coat Weight": 0.3, "Coat Roughness": 0.03},
    shaders.TEETH: {"Roughness": 0.22, "Specular IOR Level": 0.4},
    shaders.BROW: {"Roughness": 0.8, "Specular IOR Level": 0.1},
    shaders.LASH: {"Roughness": 0.8, "Specular IOR Level": 0.1},
    shaders.MOUTH: {"Roughness": 0.35, "Specular IOR Level": 0.4},
}  # fmt: skip


class Graph:
    """The nodes of a material or world, written as expressions: values are sockets, numbers or tuples."""

    def __init__(self, owner: Any) -> None:
        self._tree = owner.node_tree
        self._tree.nodes.clear()

    def node(self, kind: str, inputs: Mapping[Any, Any] | None = None, **settings: Any) -> Any:
        """A node of a kind with its inputs by name or number."""
        node = self._tree.nodes.new(f"ShaderNode{kind}")
        for name, value in settings.items():
            setattr(node, name, value)
        for place, value in (inputs or {}).items():
            if hasattr(value, "is_output"):
                self._tree.links.new(value, node.inputs[place])
            else:
                node.inputs[place].default_value = value
        return node

    def math(self, operation: str, *values: Any, clamp: bool = False) -> Socket:
        """One of Blender's operations on numbers."""
        return self.node("Math", dict(enumerate(values)), operation=operation, use_clamp=clamp).outputs[0]

    def ramp(self, value: Socket, low: float, high: float, start: float = 0.0, end: float = 1.0) -> Socket:
        """`start` at low to `end` at high, eased, constant beyond; low < high."""
        inputs = {0: value, 1: low, 2: high, 3: start, 4: end}
        return self.node("MapRange", inputs, interpolation_type="SMOOTHSTEP").outputs[0]

    def mix(self, share: Any, first: Any, second: Any, blend: str = "MIX") -> Socket:
        """A colour between two; with MULTIPLY the first, and their product at share 1."""
        first, second = ((*c, 1.0) if isinstance(c, tuple) else c for c in (first, second))
        return self.node("Mix", {0: share, 6: first, 7: second}, data_type="RGBA", blend_type=blend).outputs[2]

    def grey(self, value: Socket) -> Socket:
        return self.node("CombineColor", dict.fromkeys(range(3), value)).outputs[0]

    def noise(self, place: Socket, scale: float, detail: float = 1.0) -> Socket:
        """Smooth noise in about [0.2, 0.8], mostly near 0.5."""
        return self.node("TexNoise", {"Vector": place, "Scale": scale, "Detail": detail}).outputs[0]

    def vector(self, x: Any, y: Any, z: Any = 0.0) -> Socket:
        return self.node("CombineXYZ", {0: x, 1: y, 2: z}).outputs[0]

    def bump(self, height: Socket, depth: float, strength: float = 1.0) -> Socket:
        """A normal bent by a height, `depth` metres for 1."""
        return self.node("Bump", {"Height": height, "Distance": depth, "Strength": strength}).outputs[0]


def make_material(bpy: Any, kind: int, look: Look, lamp: tuple[float, float, float]) -> Any:
    """The material of a kind of `shaders` for a look; `lamp` is the direction (Blender's axes) that eyes mirror."""
    material = bpy.data.materials.new(f"material{kind}")
    graph = Graph(material)
    rest = graph.node("Attribute", attribute_name="rest").outputs["Vector"]
    stored = graph.node("Attribute", attribute_name="colour").outputs
    open_ = graph.node("Attribute", attribute_name="open").outputs["Factor"]
    inputs = {"Base Color": stored["Color"], **SURFACES[kind]}
    x, y, z = graph.node("SeparateXYZ", {0: rest}).outputs
    if kind == shaders.SKIN:
        fleck = graph.math("MULTIPLY_ADD", graph.noise(rest, 9.0, 3.0), 0.20, 0.90)
        warm = graph.mix(1.0, stored["Color"], WARMTH, "MULTIPLY")
        inputs["Base Color"] = graph.mix(1.0, warm, graph.grey(fleck), "MULTIPLY")
        inputs["Normal"] = graph.bump(graph.noise(rest, 45.0, 1.0), 0.0002)
    elif kind == shaders.CLOTH:
        inputs |= cloth(graph, look.weave, stored["Color"], rest, x, y)
    elif kind == shaders.HAIR:
        inputs |= hair(graph, stored["Color"], x, y, z)
    elif kind == shaders.EYE:
        shine = graph.math("MULTIPLY", highlight(graph, lamp), open_)
        # Colour as well as light, because colour guides the denoiser, which would spread the light alone.
        inputs["Base Color"] = graph.mix(shine, eye(graph, look, x, y, z), (1.0, 1.0, 1.0))
        inputs["Emission Color"] = (1.0, 1.0, 1.0, 1.0)
        inputs["Emission Strength"] = shine
    elif kind == shaders.TEETH:
        inputs["Emission Color"] = stored["Color"]
        inputs["Emission Strength"] = graph.math("MULTIPLY", open_, 0.45)
    elif kind == shaders.BROW:  # rest is (along, across)
        stroke = graph.noise(
            graph.vector(graph.math("MULTIPLY_ADD", y, 9.0, graph.math("MULTIPLY", x, 46.0)), y), 1.0, 0.0
        )
        stroke = graph.ramp(stroke, 0.25, 0.75, 0.35, 1.45)
        edges = ((y, 0.0, 0.28, 0, 1), (y, 0.62, 1.0, 1, 0), (x, 0.0, 0.10, 0, 1), (x, 0.55, 1.0, 1, 0))
        for edge in edges:
            stroke = graph.math("MULTIPLY", stroke, graph.ramp(*edge))
        inputs["Alpha"] = graph.math("MINIMUM", stroke, 0.92)
    elif kind == shaders.LASH:
        inputs["Alpha"] = stored["Alpha"]
    # Burley's subsurface takes three quarters of the random walk's time.
    surface = graph.node("BsdfPrincipled", inputs, subsurface_method="BURLEY")
    graph.node("OutputMaterial", {"Surface": surface.outputs[0]})
    return material


def cloth(graph: Graph, weave: Weave, colour: Socket, rest: Socket, x: Socket, y: Socket) -> dict[str, Any]:
    """Colour with the look's pattern, and folds."""
    own = graph.node("Attribute", attribute_name="own").outputs["Factor"]
    if weave.kind:
        a, b = graph.math("MULTIPLY", x, weave.along), graph.math("MULTIPLY", y, weave.down)
        across, down = (graph.math("PINGPONG", value, 0.5) for value in (a, b))  # 0 at whole numbers
        if weave.kind == 1:  # stripes across
            share = graph.ramp(down, 0.08, 0.20, 1, 0)
        elif weave.kind == 2:  # checks
            steps = [graph.math("GREATER_THAN", graph.math("FRACT", value), 0.5) for value in (a, b)]
            share = graph.math("MULTIPLY", graph.math("ADD", *steps), 0.5)
        elif weave.kind == 3:  # pin stripes
            share = graph.ramp(across, 0.40, 0.45)
        else:  # ribs
            bent = graph.math("MULTIPLY", graph.math("SINE", graph.math("MULTIPLY", y, 3.0)), 0.6)
            share = graph.math("SINE", graph.math("MULTIPLY_ADD", a, 6.2832, bent))
            share = graph.math("MULTIPLY_ADD", share, 0.5, 0.5)
        masked = graph.math("MULTIPLY", graph.math("GREATER_THAN", own, 0.5), weave.contrast)
        colour = graph.mix(graph.math("MULTIPLY", share, masked), colour, weave.colour)
    tone = graph.math("MULTIPLY_ADD", graph.noise(rest, 2.0, 2.0), 0.16, 0.92)
    sheet = graph.node("Mapping", {0: rest, "Scale": (1.0, 0.5, 0.8), "Rotation": (0.0, 0.0, 0.35)}).outputs[0]
    swing = graph.math("SUBTRACT", graph.noise(sheet, 1.3, 0.0), 0.5)
    crest = graph.math("SQRT", graph.math("MULTIPLY_ADD", swing, swing, 0.004))  # an edge, but a round one
    thread = graph.noise(rest, 70.0, 0.0)
    height = graph.math("MULTIPLY_ADD", thread, 0.006, graph.math("MULTIPLY", crest, -1.0))
    return {
        "Base Color": graph.mix(1.0, colour, graph.grey(tone), "MULTIPLY"),
        "Normal": graph.bump(height, 0.05),
    }


def hair(graph: Graph, colour: Socket, x: Socket, y: Socket, z: Socket) -> dict[str, Any]:
    """Strands that fall from the crown: darker and lighter, with highlights across them."""
    turn = graph.math("ARCTAN2", x, z)
    fine, broad = (
        graph.noise(graph.vector(graph.math("MULTIPLY", turn, around), graph.math("MULTIPLY", y, down)), 1.0, 1.0)
        for around, down in ((40.0, 0.9), (10.0, 0.4))
    )
    tone = graph.math("MULTIPLY_ADD", fine, 1.0, graph.math("MULTIPLY_ADD", graph.ramp(broad, 0.25, 0.75), 0.35, 0.35))
    down = graph.vector(graph.math("MULTIPLY", x, 0.35), graph.math("MULTIPLY", z, -0.35), -1.0)  # Blender's axes
    return {
        "Base Color": graph.mix(1.0, colour, graph.grey(tone), "MULTIPLY"),
        "Specular Tint": graph.mix(0.6, (1.0, 1.0, 1.0), colour),
        "Normal": graph.bump(fine, 0.0025),
        "Tangent": down,
    }


def eye(graph: Graph, look: Look, x: Socket, y: Socket, z: Socket) -> Socket:
    """White, iris and pupil by direction from the ball's middle, +z the gaze."""
    flat = graph.vector(x, y)
    out = graph.math("DIVIDE", graph.node("VectorMath", {0: flat}, operation="LENGTH").outputs["Value"], 0.54)
    turn = graph.math("ARCTAN2", y, x)
    rays = graph.noise(graph.vector(graph.math("MULTIPLY", turn, 9.0), graph.math("MULTIPLY", out, 2.0)), 1.0, 2.0)
    white = graph.mix(graph.ramp(out, 1.45, 2.2, 0.0, 0.5), (0.78, 0.745, 0.72), (0.62, 0.30, 0.26))
    light = graph.math("MULTIPLY", graph.ramp(rays, 0.2, 0.8, 0.6, 1.6), graph.ramp(y, -0.4, 0.3, 1.35, 0.75))
    coloured = graph.mix(1.0, look.iris, graph.grey(light), "MULTIPLY")
    coloured = graph.mix(graph.ramp(out, 0.70, 1.0), coloured, tuple(0.2 * c for c in look.iris))
    coloured = graph.mix(graph.ramp(out, 0.38, 0.44), (0.006, 0.006, 0.006), coloured)
    behind = graph.math("LESS_THAN", z, 0.0)
    rim = graph.math("MAXIMUM", graph.ramp(out, 0.93, 1.07), behind)
    return graph.mix(rim, coloured, white)


def highlight(graph: Graph, lamp: tuple[float, float, float]) -> Socket:
    """1 where the surface mirrors the lamp to the viewer, 0 elsewhere."""
    seen = graph.node("NewGeometry").outputs
    mirrored = graph.node("VectorMath", {0: seen["Incoming"], 1: seen["Normal"]}, operation="REFLECT").outputs[0]
    away = tuple(-part for part in lamp)  # as the mirrored direction points into the eye
    along = graph.node("VectorMath", {0: mirrored, 1: away}, operation="DOT_PRODUCT").outputs["Value"]
    return graph.ramp(along, 0.966, 0.982)
