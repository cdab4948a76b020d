// All three widgets in one file.
import "./manage";
import "./capture";
import "./history";
