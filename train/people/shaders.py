"""GLSL of the rasteriser: one program for each material, one that only fills depth.

Inputs of a vertex: place and normal in the world (dynamic), its place at rest or texture coordinate, linear colour and
alpha, and (material, occlusion, gloss, own value). Light is computed in linear colour; the output is sRGB, multiplied
by its coverage.
"""

from __future__ import annotations

SKIN, CLOTH, HAIR, EYE, TEETH, BROW, LASH, MOUTH = range(8)
SEE_THROUGH = (BROW, LASH)

DEPTH_VERTEX = """
#version 330
uniform mat4 camera; in vec3 place; invariant gl_Position;
void main() { gl_Position = camera * vec4(place, 1.0); }
"""
DEPTH_FRAGMENT = """
#version 330
void main() {}
"""

VERTEX = """
#version 330
uniform mat4 camera; uniform mat4 shadow_camera;
in vec3 place; in vec3 normal; in vec3 rest; in vec4 colour; in vec4 surface;
invariant gl_Position;
out vec3 v_place; out vec3 v_normal; out vec3 v_rest; out vec4 v_colour; out vec4 v_surface; out vec3 v_shadow;
void main() {
  gl_Position = camera * vec4(place, 1.0);
  v_place = place; v_normal = normal; v_rest = rest; v_colour = colour; v_surface = surface;
  vec4 s = shadow_camera * vec4(place + 0.06 * normal, 1.0);
  v_shadow = s.xyz * 0.5 + 0.5;
}
"""

# Compiled once a material with its number as KIND: a software renderer runs every branch that it cannot fold away.
FRAGMENT = """
#version 330
#define KIND KIND_HERE
uniform vec3 eye_place;               // the camera
uniform vec3 key_way, fill_way, rim_way, rim2_way;   // to the lights, unit
uniform vec3 key_light, fill_light, rim_light, rim2_light, sky_light, ground_light;
uniform vec3 iris; uniform vec3 iris_rim; uniform vec3 flush;
uniform vec4 weave;                   // pattern kind, stripes a decimetre, contrast, second scale
uniform vec3 weave_colour;
uniform float exposure;
uniform sampler2DShadow shadow_map;
uniform float shadow_texel;
in vec3 v_place; in vec3 v_normal; in vec3 v_rest; in vec4 v_colour; in vec4 v_surface; in vec3 v_shadow;
out vec4 result;

float hash(vec2 p) { p = fract(p * vec2(0.1031, 0.1030)); p += dot(p, p.yx + 33.33); return fract((p.x + p.y) * p.x); }
float noise(vec2 p) {
  vec2 i = floor(p), f = fract(p); f = f * f * (3.0 - 2.0 * f);
  return mix(mix(hash(i), hash(i + vec2(1, 0)), f.x), mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)), f.x), f.y);
}
float lit() {
  if (v_shadow.x < 0.0 || v_shadow.x > 1.0 || v_shadow.y < 0.0 || v_shadow.y > 1.0) return 1.0;
  float sum = 0.0;
  for (int k = 0; k < 4; k++) {
    vec2 away = shadow_texel * 2.6 * vec2(k < 2 ? -1.0 : 1.0, (k & 1) == 0 ? -0.6 : 0.6);
    sum += texture(shadow_map, vec3(v_shadow.xy + away, v_shadow.z - 0.004));
  }
  return 0.25 * sum;
}
vec3 wrapped(vec3 n, vec3 way, vec3 wrap) { return max((vec3(dot(n, way)) + wrap) / (1.0 + wrap), 0.0); }
float glint(vec3 n, vec3 way, vec3 view, float power) { return pow(max(dot(n, normalize(way + view)), 0.0), power); }
float strand(vec3 along, vec3 way, vec3 view, float power) {
  float d = dot(along, normalize(way + view)); return pow(max(1.0 - d * d, 0.0), 0.5 * power);
}

void main() {
  float open = v_surface.y, gloss = v_surface.z;
  vec3 view = normalize(eye_place - v_place);
  vec3 n = normalize(v_normal);
  if (dot(n, view) < 0.0 && KIND != 3) n = -n;   // cloth and hair are seen from both sides
  float facing = clamp(dot(n, view), 0.0, 1.0);
  float shade = lit();
  vec3 base = v_colour.rgb; float alpha = v_colour.a;
  vec3 wrap = vec3(0.15); vec3 extra = vec3(0.0);
  float key_share = shade * (0.35 + 0.65 * open), fill_share = 0.25 + 0.75 * open;

  if (KIND == 0) {                               // skin: light bleeds further in red
    wrap = vec3(0.42, 0.22, 0.17);
    float fleck = noise(v_rest.xy * 9.0 + v_rest.z) * 0.6 + noise(v_rest.xy * 34.0) * 0.4;
    base *= 0.965 + 0.07 * fleck;
    float sheen = 0.045 * glint(n, key_way, view, 18.0) * shade + 0.10 * gloss * glint(n, key_way, view, 60.0) * shade;
    sheen += 0.03 * glint(n, fill_way, view, 16.0);
    extra += (sheen * key_light + 0.10 * pow(1.0 - facing, 4.0) * rim_light) * open;
    base = mix(base, base * flush, 0.35 * (1.0 - shade) + 0.25 * (1.0 - open));
  } else if (KIND == 1) {                        // cloth; folds are a height that bends the normal
    float hang = 0.25 * v_rest.x + 0.3 * sqrt(v_rest.x * v_rest.x + 0.6);   // lower at the sides
    vec2 sheet = vec2(1.1 * v_rest.x + 0.5 * v_rest.z, 0.75 * v_rest.y + hang - 0.3 * v_rest.z);
    sheet += 0.9 * vec2(noise(sheet * 0.9), noise(sheet * 0.9 + 7.0));
    float fold = abs(noise(sheet * vec2(0.9, 1.5)) - 0.5) + 0.45 * abs(noise(sheet * vec2(2.1, 3.1) + 3.0) - 0.5);
    fold *= -0.27;
    // Mikkelsen (2010), Bump Mapping Unparametrized Surfaces on the GPU.
    vec3 along_x = dFdx(v_place), along_y = dFdy(v_place);
    vec3 r1 = cross(along_y, n), r2 = cross(n, along_x);
    float area = dot(along_x, r1);
    n = normalize(abs(area) * n - sign(area) * (dFdx(fold) * r1 + dFdy(fold) * r2));
    if (weave.x > 0.5 && v_surface.w > 0.5) {
      float a = v_rest.x * weave.y, b = v_rest.y * weave.w, c = 0.0;
      if (weave.x < 1.5) c = smoothstep(0.30, 0.42, abs(fract(b) - 0.5));                        // stripes across
      else if (weave.x < 2.5) c = 0.5 * step(0.5, fract(a)) + 0.5 * step(0.5, fract(b));          // checks
      else if (weave.x < 3.5) c = 1.0 - smoothstep(0.05, 0.10, abs(fract(a) - 0.5));              // pin stripes
      else c = 0.5 + 0.5 * sin(6.2832 * a + 0.6 * sin(3.0 * v_rest.y));                           // ribs
      base = mix(base, weave_colour, weave.z * c);
    }
    base *= 0.93 + 0.14 * noise(v_rest.xy * 3.0 + v_rest.z * 2.0);
    base *= 0.975 + 0.05 * noise(v_rest.xy * vec2(60.0, 60.0));
    extra += base * 0.25 * pow(1.0 - facing, 3.0) * (sky_light + rim_light) * open;
    extra += 0.02 * gloss * glint(n, key_way, view, 24.0) * key_light * shade;
  } else if (KIND == 2) {                        // hair: strands fall from the crown
    float round_ = atan(v_rest.x, v_rest.z);
    float fine = noise(vec2(round_ * 46.0, v_rest.y * 0.9)), broad = noise(vec2(round_ * 11.0, v_rest.y * 0.4));
    base *= 0.55 + 0.55 * fine + 0.35 * broad;
    vec3 down = normalize(vec3(0.35 * v_rest.x, -1.0, 0.35 * v_rest.z));
    vec3 along = normalize(down - n * dot(down, n) + n * (0.10 * fine - 0.12));
    vec3 along2 = normalize(along + n * 0.18);
    wrap = vec3(0.25);
    vec3 tint = mix(vec3(1.0), base * 4.0, 0.55);
    extra += (0.10 * strand(along, key_way, view, 90.0) * shade * key_light +
              0.05 * strand(along2, key_way, view, 24.0) * shade * tint * key_light +
              0.06 * strand(along, rim_way, view, 40.0) * rim_light) * tint * open * (0.4 + 0.8 * fine) * gloss;
  } else if (KIND == 3) {                        // eye: the place at rest is a direction from its middle, +z the gaze
    float out_ = length(v_rest.xy);
    float angle = atan(v_rest.y, v_rest.x);
    float front = step(0.0, v_rest.z);
    float r = out_ / 0.54;                       // 1 at the rim of the iris
    vec3 white = vec3(0.80, 0.765, 0.74) * (0.97 - 0.25 * smoothstep(1.2, 2.0, r));
    white = mix(white, vec3(0.62, 0.30, 0.26), 0.5 * smoothstep(1.45, 2.2, r));
    float rays = noise(vec2(angle * 9.0, r * 2.0)) * 0.6 + 0.4 * noise(vec2(angle * 23.0, r));
    vec3 coloured = mix(iris * (0.55 + 0.9 * rays), iris_rim, smoothstep(0.70, 1.0, r));
    coloured *= 0.75 + 0.6 * smoothstep(0.3, -0.5, v_rest.y / 0.54 * 0.8);   // light gathers opposite the lamp
    coloured = mix(vec3(0.006), coloured, smoothstep(0.38, 0.44, r));
    base = mix(coloured, white, mix(1.0, smoothstep(0.93, 1.07, r), front));
    float lid = clamp(open, 0.0, 1.0);
    key_share = lid * (0.35 + 0.65 * shade); fill_share = lid;
    wrap = vec3(0.5);
    vec3 mirror = reflect(-view, n);
    float lamp = smoothstep(0.955, 0.975, dot(mirror, normalize(key_way + vec3(0.0, 0.1, 0.75))));
    extra += vec3(0.85) * lamp * lid * 0.9;
    extra += 0.05 * pow(max(dot(mirror, fill_way), 0.0), 12.0) * fill_light;
  } else if (KIND == 4) {                        // teeth
    wrap = vec3(0.4); key_share = open * (0.5 + 0.5 * shade); fill_share = open;
    extra += 0.06 * glint(n, key_way, view, 40.0) * key_light * open;
  } else if (KIND == 5) {                        // brow hairs on a card; rest is (along, across)
    float stroke = noise(vec2(v_rest.x * 46.0 + v_rest.y * 9.0, v_rest.y * 2.5));
    float shape = smoothstep(0.0, 0.28, v_rest.y) * smoothstep(1.0, 0.62, v_rest.y);
    shape *= smoothstep(0.0, 0.10, v_rest.x) * smoothstep(1.0, 0.55, v_rest.x);
    alpha *= clamp(shape * (0.35 + 1.1 * stroke), 0.0, 0.92);
    fill_share = key_share = 0.8;
  } else if (KIND == 6) {                        // lashes
    fill_share = key_share = 0.5;
  } else if (KIND == 7) {                        // inside of the mouth, tongue
    wrap = vec3(0.4, 0.25, 0.25); key_share = open * (0.4 + 0.6 * shade); fill_share = open;
    extra += 0.03 * glint(n, key_way, view, 30.0) * key_light * open;
  }

  vec3 light = key_light * wrapped(n, key_way, wrap) * key_share
             + fill_light * wrapped(n, fill_way, wrap + 0.25) * fill_share
             + rim_light * wrapped(n, rim_way, wrap * 0.3) * fill_share
             + rim2_light * wrapped(n, rim2_way, wrap * 0.3) * fill_share
             + mix(ground_light, sky_light, 0.5 + 0.5 * n.y) * open;
  vec3 seen = (base * light + extra) * exposure;
  seen = seen * (1.0 + seen * 0.12) / (1.0 + seen * 0.42);   // a soft shoulder
  vec3 srgb = mix(12.92 * seen, 1.055 * pow(max(seen, 1e-5), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, seen));
  result = vec4(clamp(srgb, 0.0, 1.0), alpha);
}
"""
