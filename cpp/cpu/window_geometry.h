// Windows and cells on the grid: plan/window_geometry.h, by the names that this backend uses.
#pragma once

#include "../plan/window_geometry.h"
