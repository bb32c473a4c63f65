/** The daemon and its commands. The heap is set up before most of the program is loaded, as that would enlarge it. */
import { limitHeap } from "./heap.ts";

limitHeap();
await import("./program.ts");
